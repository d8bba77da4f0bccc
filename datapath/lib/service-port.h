/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Nodes that packets reach by MAC address: bumps in the wire (l2pair) and routers (l3), each with one or two arms.
 *
 * A node's hop row n is the arm that faces the uplink, row n + DT_SECOND_ARM the one that faces the inside. A packet on its way from the
 * uplink to the inside goes to the first and comes back by the second, and the other way round; the flow's word says from which side its
 * forward packets come, so that both directions cross the node in opposite senses, wherever on the path it stands. A node with one arm has
 * the same device in both rows. Only the Ethernet header is new: the node sees the packet as it came, TTL included.
 *
 * Such a node says nothing of the flow: the port by which it returns a packet names the node, the record its place on the path. So a packet
 * that comes back by the arm to which it was sent has not crossed the node and ends as service_loop. Nothing is classified here.
 */
#ifndef DETOUR_SERVICE_PORT_H
#define DETOUR_SERVICE_PORT_H

#include "maps.h"
#include "packet.h"
#include "loop-guard.h"
#include "punt.h"
#include "vlan.h"

/* 1: this packet comes from the inside. */
static __always_inline __u32 word_side(__u64 word, const struct packet *p)
{
	return (word >> WORD_FLAGS_SHIFT & WORD_FLAG_INSIDE ? 1 : 0) ^ (p->dir & 1);
}

/* The arm by which a packet must come back is the one to which it was not sent. */
static __always_inline int arm_opposite(const struct packet *p)
{
	return p->arms & (p->inside ? PORT_ARM_A : PORT_ARM_B);
}

static __always_inline void arm_enter(struct packet *p, const struct port *row)
{
	p->key.vrf = row->vrf;
	p->table = row->table;
	p->deliver = row->vti_ifindex;
	node_mark(p, row->node);
	p->arms = row->flags & (PORT_ARM_A | PORT_ARM_B);
	p->strict = 1;
}

/* The arm's next hop has no MAC: the packet waits while tunnel-gw asks for it. */
RARE int arm_hold(struct xdp_md *ctx, struct packet *p, __u32 number)
{
	struct scratch *s = scratch_here();
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);

	if (!s || !p || !c || !punt_allowed(p, c, PUNT_DECISION))
		return DROP_PUNT_FULL;
	event_fill(&s->event, p, EVENT_PUNT_NEIGH);
	s->event.old_path = number;
	return punt_send(ctx, p, s);
}

/* To the node of this hop row, by the arm for packets of this side. */
RARE int arm_send(struct xdp_md *ctx, struct packet *p, __u32 number, __u32 inside)
{
	struct hop *hop;

	if (!p)
		return DROP_NO_TABLE;
	if (inside)
		number += DT_SECOND_ARM;
	hop = hop_row(p->bank, number);
	if (!hop || (hop->kind != HOP_L2 && hop->kind != HOP_L3))
		return DROP_NO_TABLE;
	if (!hop->mtu)
		return arm_hold(ctx, p, number);
	if (p->frame - ETH_HLEN > hop->mtu) {
		p->fits = hop->mtu;
		return DROP_TOO_BIG;
	}
	return frame_send(ctx, p, hop, hop->dmac);
}

#endif
