/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What tunnel-gw is told: records of the ring, made in the CPU's scratch. */
#ifndef DETOUR_EVENT_H
#define DETOUR_EVENT_H

#include "maps.h"
#include "packet.h"
#include "count.h"

static __always_inline void event_fill(struct event *e, const struct packet *p, enum event_type type)
{
	__builtin_memset(e, 0, sizeof(*e));
	e->type = type;
	e->at_ns = bpf_ktime_get_ns();
	e->key = p->key;
	e->norm = p->norm;
	e->op = p->leaves ? INJECT_LEAVE : p->node ? INJECT_RETURN : INJECT_PORT;
	e->tcp_flags = p->tcp_flags;
	e->port = p->port;
	e->node = p->node;
}

/* An event without a packet; 0 when it is in the ring. */
static __always_inline long event_send(struct event *e)
{
	long rc = bpf_ringbuf_output(&events, e, sizeof(*e), 0);

	if (rc)
		count_stat(STAT_EVENT_LOST);
	return rc;
}

#endif
