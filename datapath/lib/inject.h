/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Frames that tunnel-gw puts back, behind a struct inject_hdr: they go on where they were held, as if nothing had been in between. */
#ifndef DETOUR_INJECT_H
#define DETOUR_INJECT_H

#include "maps.h"
#include "packet.h"
#include "tunnel.h"

/* The port that a packet enters by, as rules and flows see it. */
static __always_inline void port_enter(struct packet *p, const struct port *row)
{
	p->port = row->number;
	p->key.vrf = row->vrf;
	p->table = row->table;
	p->classify = row->flags & PORT_CLASSIFY;
	p->asked = row->flags & PORT_SNAT ? PACKET_SNAT : 0;
}

RARE int inject_take(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct inject_hdr *h = data;
	struct tunnel *tunnel;
	struct port *row;

	if (!p)
		return DROP_INJECT;
	if ((void *)(h + 1) > end || h->ethertype_be != bpf_htons(INJECT_ETHERTYPE))
		return DROP_INJECT;
	p->injected = 1;
	p->l2 = sizeof(*h);
	p->frame -= sizeof(*h);
	switch (h->op) {
	case INJECT_PORT:
		row = port_row(p->bank, h->port);
		if (!row || row->number != h->port)
			return DROP_INJECT;
		if (row->kind != PORT_INTERNAL && row->kind != PORT_UPLINK && row->kind != PORT_VTI && row->kind != PORT_GUEST)
			return DROP_INJECT;
		port_enter(p, row);
		p->deliver = row->vti_ifindex;
		return 0;
	case INJECT_LEAVE:
		row = port_row(p->bank, h->port);
		if (!row || row->number != h->port || !row->table)
			return DROP_INJECT;
		port_enter(p, row);
		p->leaves = 1;
		return 0;
	case INJECT_RETURN:
		tunnel = node_row(p->bank, h->node);
		if (!tunnel || tunnel->node != h->node || tunnel->kind != TUNNEL_TO_NODE)
			return DROP_INJECT;
		return tunnel_enter(p, tunnel);
	case INJECT_DROP:
		return h->reason && h->reason < DROP_REASONS ? h->reason : DROP_INJECT;
	default:
		return DROP_INJECT;
	}
}

#endif
