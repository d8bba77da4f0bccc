/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Why a packet does not circulate: what a node returned is marked with that node, here and not on the wire, so it can only go on along its
 * flow's path (returned in edge.bpf.c). The guard does not rely on the mark. It goes by what the packet came through, a node's tunnel or arm:
 * such a packet never begins a path and never asks for a decision. So the budget is one pass of a rule's chain, and each node of it sees a
 * packet once.
 */
#ifndef DETOUR_LOOP_GUARD_H
#define DETOUR_LOOP_GUARD_H

#include "packet.h"

/* Set before loading. 0, in tests alone: nothing is marked, and what a node returns is looked up as if it came fresh. */
const volatile __u32 mark_returned = 1;

/* This node had the packet. */
static __always_inline void node_mark(struct packet *p, __u16 node)
{
	p->serviced = 1;
	if (mark_returned)
		p->node = node;
	else
		p->classify = PORT_CLASSIFY;
}

/* A packet about to begin a path. */
static __always_inline int begins_again(const struct packet *p)
{
	return p->serviced && !p->position;
}

#endif
