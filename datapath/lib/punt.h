/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What tunnel-gw is told, and packets that it holds until a decision or a neighbour is there.
 *
 * A punt copies the packet as it stands on its port, from its (inner) Ethernet header on, behind a struct event. Bounds: a token bucket
 * per source address, DT_PENDING_QUEUE packets a second for an undecided flow (its pending record is an embryo, so that a flood of new
 * flows ages out only itself), and the ring. Buckets are read and written without a lock: two CPUs may let one packet more through.
 */
#ifndef DETOUR_PUNT_H
#define DETOUR_PUNT_H

#include "maps.h"
#include "packet.h"
#include "count.h"
#include "event.h"
#include "source-bucket.h"
#include "flow.h"

#define PENDING_NS 1000000000ull      /* a pending record that is older starts again */
#define HOP_REPORT_NS 100000000ull

RARE long event_repin(const struct packet *p, const struct flow *f, __u32 old_path, __u32 new_path)
{
	struct scratch *s = scratch_here();

	if (!s || !p || !f)
		return -1;
	event_fill(&s->event, p, EVENT_REPIN);
	s->event.old_path = old_path;
	s->event.new_path = new_path;
	s->event.chain = f->chain;
	s->event.pin_gen = f->pin_gen;
	return event_send(&s->event);
}

RARE long event_revalidate(const struct packet *p, const struct flow *f)
{
	struct scratch *s = scratch_here();

	if (!s || !p || !f)
		return -1;
	event_fill(&s->event, p, EVENT_REVALIDATE);
	s->event.old_path = s->event.new_path = word_path(ACCESS_ONCE(f->word));
	s->event.chain = f->chain;
	s->event.pin_gen = f->pin_gen;
	return event_send(&s->event);
}

/* A hop row without a neighbour, at most ten times a second. */
RARE int hop_not_ready(const struct packet *p, const struct hop *hop, __u32 number)
{
	__u64 *last = bpf_map_lookup_elem(&hop_reports, &number), now = bpf_ktime_get_ns();
	struct scratch *s = scratch_here();

	if (!p || !hop || !last || !s || (*last && now - *last < HOP_REPORT_NS))
		return DROP_HOP_NOT_READY;
	*last = now;
	event_fill(&s->event, p, EVENT_HOP_NEIGH);
	s->event.old_path = number;
	s->event.node = hop->node;
	s->event.out_ifindex = hop->ifindex;
	event_send(&s->event);
	return DROP_HOP_NOT_READY;
}

static __always_inline int punt_allowed(const struct packet *p, const struct control *c, enum source_purpose purpose)
{
	return source_allowed(p, purpose, c->punt_rate, c->punt_burst);
}

/* The event in scratch and the packet behind it. */
static __always_inline int punt_send(struct xdp_md *ctx, const struct packet *p, struct scratch *s)
{
	__u32 len = p->frame;

	if (len > DT_PUNT_BYTES)
		return DROP_TOO_BIG;
	asm volatile("" : "+r"(len));
	if (len < ETH_HLEN || len > DT_PUNT_BYTES)
		return DROP_MALFORMED;
	s->event.packet_len = len;
	if (bpf_xdp_load_bytes(ctx, p->l2, s->packet, len))
		return DROP_MALFORMED;
	if (bpf_ringbuf_output(&events, s, sizeof(s->event) + len, 0)) {
		count_stat(STAT_EVENT_LOST);
		return DROP_PUNT_FULL;
	}
	return PACKET_PUNT;
}

/* A flow without a decision: the packet waits with tunnel-gw, and at most DT_PENDING_QUEUE of the flow with it. */
RARE int punt_miss(struct xdp_md *ctx, struct packet *p, const struct control *c)
{
	struct scratch *s = scratch_here();
	struct flow_key key;
	struct flow *pending;
	__u64 now = bpf_ktime_get_ns();
	__u8 first = 0;

	if (!s || !p || !c || !punt_allowed(p, c, PUNT_DECISION))
		return DROP_PUNT_FULL;
	key = p->key;
	pending = bpf_map_lookup_elem(&embryos, &key);
	if (!pending) {
		__builtin_memset(&s->flow, 0, sizeof(s->flow));
		s->flow.word = (__u64)FLOW_PENDING << WORD_ACTION_SHIFT | (__u64)p->norm << WORD_FWD_B_SHIFT;
		s->flow.created_ns = now;
		s->flow.slot = 1;
		s->flow.fwd_port = p->port;
		bpf_map_update_elem(&embryos, &key, &s->flow, BPF_NOEXIST);
		pending = bpf_map_lookup_elem(&embryos, &key);
		if (!pending)
			return DROP_CONN_FULL;
		first = 1;
	} else if (word_action(pending->word) != FLOW_PENDING) {
		return DROP_PUNT_FULL; /* decided this very moment: the sender will try again */
	} else if (now - pending->created_ns > PENDING_NS) {
		pending->created_ns = now;
		pending->slot = 1;
		first = 1;
	} else if (pending->slot >= DT_PENDING_QUEUE) {
		return DROP_PUNT_FULL;
	} else {
		__sync_fetch_and_add(&pending->slot, 1);
	}
	event_fill(&s->event, p, EVENT_PUNT_MISS);
	s->event.first = first | (p->asked & FLOW_SAMPLED ? EVENT_SAMPLED : 0) | (p->asked & FLOW_AGAIN ? EVENT_AGAIN : 0);
	return punt_send(ctx, p, s);
}

/* The next hop has no MAC: the packet waits while tunnel-gw asks for it. */
RARE int punt_neighbour(struct xdp_md *ctx, struct packet *p, const struct control *c, struct bpf_fib_lookup *fib)
{
	struct scratch *s = scratch_here();

	if (!s || !p || !c || !fib || !punt_allowed(p, c, PUNT_DECISION))
		return DROP_PUNT_FULL;
	event_fill(&s->event, p, EVENT_PUNT_NEIGH);
	s->event.out_ifindex = fib->ifindex;
	if (fib->family == 2 /* AF_INET */)
		key_put4(s->event.next_hop, fib->ipv4_dst);
	else
		__builtin_memcpy(s->event.next_hop, fib->ipv6_dst, sizeof(s->event.next_hop));
	return punt_send(ctx, p, s);
}

#endif
