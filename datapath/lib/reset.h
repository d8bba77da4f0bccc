/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A TCP connection whose node is down, of a chain that keeps its flows (onNodeDown: keep): its packet is dropped, and tunnel-gw tells both
 * ends by RST, so that they connect anew at once instead of waiting for a timeout.
 *
 * tunnel-gw gets what an RST is made of (RFC 9293 3.10.7.1), not the packet: end points, sequence numbers, flags. Both ends are told once; the
 * flow is one that was reset from then on. An end that goes on sending has not believed its RST, for it takes none but the exact next number
 * (RFC 5961 3.2), and says with its packet which one that is: it is told again, once a second at most, and alone. No RST answers an RST.
 * A flow without a counter row is not told of: there is nowhere to keep that it was.
 */
#ifndef DETOUR_RESET_H
#define DETOUR_RESET_H

#include "maps.h"
#include "packet.h"
#include "count.h"
#include "event.h"
#include "source-bucket.h"
#include "flow.h"
#include "select.h"

enum reset_limit { RESET_EVERY_MS = 1000, NS_PER_MS = 1000000 };

/* Whether the flow's word stays while its path is down, as path_renew has it. */
static __always_inline int flow_kept(const struct packet *p, const struct flow *f)
{
	struct chain *chain = chain_row(p->bank, f->chain);
	struct path *path = path_row(p->bank, word_path(ACCESS_ONCE(f->word)));

	return chain && path && chain->on_node_down == ON_NODE_DOWN_KEEP && path->state == PATH_DOWN;
}

/* 1: neither end of the connection, or not this one, was told within the last second. */
static __always_inline int reset_due(struct flow_counters *n, __u32 dir)
{
	__u32 now = bpf_ktime_get_ns() / NS_PER_MS, *told = dir ? &n->reset_ms[1] : &n->reset_ms[0];

	if (!now)
		now = 1; /* 0 is never */
	if (*told && now - *told < RESET_EVERY_MS)
		return 0;
	*told = now;
	return 1;
}

/* A packet as it enters, which is dropped as node_down whatever this says. */
RARE int reset_ask(struct xdp_md *ctx, const struct packet *p, const struct control *c, const struct flow *f)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct scratch *s = scratch_here();
	struct flow_counters *n;
	__u32 slot, left, header;
	__u8 *tcp;

	if (!p || !c || !f || !s || p->key.proto != IPPROTO_TCP || p->quoted || p->fragment == FRAGMENT_LATER || p->tcp_flags & TCP_RST)
		return 0;
	slot = f->slot;
	n = slot && flow_kept(p, f) ? bpf_map_lookup_elem(&flow_counters, &slot) : NULL;
	if (!n || !source_allowed(p, SOURCE_RESET, c->punt_rate, c->punt_burst) || !reset_due(n, p->dir & 1))
		return 0;
	tcp = data + (p->l4 & 0x3ff);
	if ((void *)(tcp + 20) > end)
		return 0;
	left = p->ip_len + packet_l2(p) + ETH_HLEN - p->l4; /* TCP header and data */
	header = (tcp[12] >> 4) * 4;
	event_fill(&s->event, p, EVENT_RESET);
	s->event.first = n->seen & SEEN_RST ? 0 : EVENT_FIRST;
	s->event.old_path = bpf_ntohl(*(__be32 *)(tcp + 4));
	s->event.new_path = bpf_ntohl(*(__be32 *)(tcp + 8));
	s->event.out_ifindex = left > header ? left - header : 0;
	if (!event_send(&s->event))
		count_stat(STAT_RESET);
	return 0;
}

/* tunnel-gw's RST, about to leave: it is a packet of the flow that it ends, and is counted and translated as one. A function for its place on the stack. */
RARE int reset_leaves(struct packet *p)
{
	struct flow_key key;
	struct flow *f;

	if (!p)
		return 0;
	key = p->key; /* kernels before 6.2 take a key from the stack only */
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		f = bpf_map_lookup_elem(&embryos, &key);
	if (!f)
		return 0;
	p->dir = p->norm ^ word_initiator(ACCESS_ONCE(f->word));
	flow_facts(p, f);
	p->of_flow = 1;
	return 1;
}

#endif
