/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The only place where packets are counted at their end: one of forwarded, passed, punted, dropped, with the port that it came in by.
 *
 *	rx = forwarded + passed + punted + dropped, in stats and in each row of port_counters
 *
 * A tunnelled packet belongs to its VTI's port, not to the underlay's as well. A packet that tunnel-gw puts back is a received packet of
 * the inject port (its first arrival ended as punted). A flow's and a rule's counters see each packet once, when it does not end as
 * punted; packets that a node returns are counted by node_counters alone.
 */
#ifndef DETOUR_COUNT_H
#define DETOUR_COUNT_H

#include "maps.h"
#include "packet.h"

enum count_limit { EXAMPLE_EVERY_NS = 100000000 };
enum tcp_bit { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

static __always_inline void count_stat(enum stat which)
{
	__u32 row = which;
	__u64 *n = bpf_map_lookup_elem(&stats, &row);

	if (n)
		(*n)++;
}

/* A redirect can still fail after the verdict: the gateway holds this against what the device says that it sent. */
static __always_inline void count_sent(__u32 ifindex)
{
	__u32 row = ifindex % DT_SENT_ROWS;
	__u64 *n = bpf_map_lookup_elem(&sent, &row);

	if (n)
		(*n)++;
}

static __always_inline void count_node(__u32 node, __u32 bytes, int from)
{
	struct node_counters *n = bpf_map_lookup_elem(&node_counters, &node);

	if (!n)
		return;
	if (from) {
		n->from_packets++;
		n->from_bytes += bytes;
	} else {
		n->to_packets++;
		n->to_bytes += bytes;
	}
}

static __always_inline void count_lookup(const struct packet *p)
{
	__u32 row = p->port;
	struct port_counters *c = bpf_map_lookup_elem(&port_counters, &row);

	if (c)
		c->rule_lookups++;
}

/*
 * The side whose RST was seen has sent something else since: it did not send that RST, or its RST did not end the connection (RFC 5961 3.2), which
 * keeps its record, its pin and its ports.
 */
static __always_inline void reset_refuted(const struct packet *p, struct flow_counters *f)
{
	__u32 own = p->dir ? SEEN_RST_REV : SEEN_RST_FWD;

	if (f->seen & own && !(p->tcp_flags & TCP_RST) && !p->quoted)
		__sync_fetch_and_and(&f->seen, ~own);
}

static __always_inline void count_flow(const struct packet *p)
{
	struct flow_counters *f = p->slot ? bpf_map_lookup_elem(&flow_counters, &p->slot) : NULL;
	struct pair_counters *r = bpf_map_lookup_elem(&rule_counters, &p->rule);

	if (f) {
		__u32 seen = p->dir ? SEEN_REPLY : 0;

		f->last_ns = bpf_ktime_get_coarse_ns();
		__sync_fetch_and_add(&f->packets[p->dir & 1], 1);
		__sync_fetch_and_add(&f->bytes[p->dir & 1], p->ip_len);
		if (p->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST)) {
			if (p->tcp_flags & TCP_FIN)
				seen |= p->dir ? SEEN_FIN_REV : SEEN_FIN_FWD;
			if (p->tcp_flags & TCP_SYN)
				seen |= SEEN_SYN;
			if (p->tcp_flags & TCP_RST)
				seen |= p->dir ? SEEN_RST_REV : SEEN_RST_FWD;
		}
		if (!p->quoted && (f->seen & seen) != seen)
			__sync_fetch_and_or(&f->seen, seen);
		reset_refuted(p, f);
	}
	if (r) {
		r->packets++;
		r->bytes += p->ip_len;
	}
}

RARE int count_drop(struct xdp_md *ctx, const struct packet *p, __u32 why)
{
	struct drop_example *e = bpf_map_lookup_elem(&drop_examples, &why);
	__u64 *n = bpf_map_lookup_elem(&drops, &why);
	__u64 now = bpf_ktime_get_coarse_ns();

	if (!p)
		return XDP_ABORTED;
	count_stat(STAT_DROPPED);
	if (n)
		(*n)++;
	if (e && (!e->at_ns || now - e->at_ns > EXAMPLE_EVERY_NS)) {
		e->key = p->key;
		e->at_ns = now;
		e->port = p->port;
		e->len = p->frame > 0xffff ? 0xffff : p->frame;
		e->ifindex = ctx->ingress_ifindex;
	}
	return XDP_DROP;
}

/* Every packet's last step. */
static __always_inline int count_end(struct xdp_md *ctx, const struct packet *p, int end)
{
	__u32 row = p->count_port;
	struct port_counters *c = bpf_map_lookup_elem(&port_counters, &row);

	count_stat(STAT_RX);
	if (p->of_flow && end != PACKET_PUNT)
		count_flow(p);
	if (c) {
		c->rx_packets++;
		c->rx_bytes += p->frame;
	}
	switch (end) {
	case PACKET_FORWARD:
		count_stat(STAT_FORWARDED);
		if (c)
			c->forwarded++;
		count_sent(p->out);
		return bpf_redirect(p->out, 0);
	case PACKET_PASS:
		count_stat(STAT_PASSED);
		if (c)
			c->passed++;
		return p->out ? bpf_redirect(p->out, 0) : XDP_PASS;
	case PACKET_PUNT:
		count_stat(STAT_PUNTED);
		if (c)
			c->punted++;
		return XDP_DROP;
	default:
		if (c)
			c->dropped++;
		return count_drop(ctx, p, end);
	}
}

#endif
