/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows that were decided here and have shown nothing but their opening: the first packet, and a SYN that is sent again.
 *
 * They have no row of flow_counters, and nobody is told of them, so that a flood of openings uses up nothing but the LRU table of embryos,
 * where it pushes out only itself. With the first other packet, of either side, the flow takes a row and tunnel-gw hears of it. A SYN
 * that is sent again may be asked about (flow_ended).
 */
#ifndef DETOUR_OPENING_H
#define DETOUR_OPENING_H

#include "maps.h"
#include "packet.h"
#include "event.h"

enum opening_limit { SLOT_TRIES = 4 };

/* A SYN as it enters, by which a connection begins (RFC 9293 3.5). */
static __always_inline int tcp_opens(const struct packet *p)
{
	return (p->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN && !p->quoted && !p->node;
}

/* A counter row that nobody has; 0: none, or others were faster every time. */
static __always_inline __u32 slot_take(void)
{
	__u32 zero = 0, slot, i;
	struct free_slots *free = bpf_map_lookup_elem(&free_slots, &zero);
	__u64 taken;

	if (!free)
		return 0;
	for (i = 0; i < SLOT_TRIES; i++) {
		taken = ACCESS_ONCE(free->taken);
		if (taken == ACCESS_ONCE(free->given))
			return 0;
		slot = ACCESS_ONCE(free->slot[taken & (DT_FREE_SLOTS - 1)]);
		if (__sync_val_compare_and_swap(&free->taken, taken, taken + 1) == taken)
			return slot;
	}
	return 0;
}

static __always_inline void event_decided(const struct packet *p, const struct flow *f, __u32 slot)
{
	struct scratch *s = scratch_here();

	if (!s)
		return;
	event_fill(&s->event, p, EVENT_DECIDED);
	s->event.norm = word_initiator(ACCESS_ONCE(f->word));
	s->event.old_path = slot;
	s->event.new_path = word_path(ACCESS_ONCE(f->word));
	s->event.chain = f->chain;
	event_send(&s->event);
}

/* A packet of a flow without a counter row, as it enters. Of several CPUs one gives it a row; what the others took the next sweep finds. */
RARE int flow_counted(const struct packet *p, struct flow *f)
{
	struct flow_counters *n;
	__u32 slot, first;

	if (!p || !f)
		return 0;
	if (tcp_opens(p)) {
		if (!p->injected)
			__sync_fetch_and_add(&f->out[1].ifindex, 1);
		return 0;
	}
	slot = slot_take();
	n = slot ? bpf_map_lookup_elem(&flow_counters, &slot) : NULL;
	if (!n) {
		count_stat(STAT_UNCOUNTED);
		return 0;
	}
	first = f->fwd_port ? 0 : 1; /* its reply was seen first */
	__builtin_memset(n, 0, sizeof(*n));
	n->packets[first] = f->out[1].ifindex;
	n->bytes[first] = (__u64)f->out[1].ifindex * f->out[1].mtu;
	n->last_ns = f->created_ns;
	n->seen = (first ? SEEN_REPLY : 0) | (p->key.proto == IPPROTO_TCP ? SEEN_SYN : 0);
	if (!__sync_val_compare_and_swap(&f->slot, 0, slot))
		event_decided(p, f, slot);
	return 0;
}

#endif
