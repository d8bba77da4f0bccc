/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What all kinds of tunnels share: whose address a packet is for, what a tunnel's row says of the packets inside, where the inner packet begins. */
#ifndef DETOUR_TUNNEL_END_H
#define DETOUR_TUNNEL_END_H

#include "maps.h"
#include "packet.h"
#include "tunnel-const.h"
#include "loop-guard.h"

/* An outer header that has been read. */
struct outer {
	struct tunnel_key key;
	__u32 l3;
	__u32 l4;	/* offset of the header behind IP */
	__u32 bytes;	/* from l4 on, as the IP header says; all of them are in the frame */
	__u8 proto;	/* IPPROTO_UDP: to Geneve's port; IPPROTO_GRE */
	__u8 ip6;
};

/* What an address is to this gateway: enum own_flag. */
static __always_inline __u32 own_as(const struct packet *p, const __u8 *addr, __u16 vrf)
{
	struct own_key key = { .vrf = vrf, .bank = p->bank };
	__u32 *as;

	__builtin_memcpy(key.addr, addr, sizeof(key.addr));
	as = bpf_map_lookup_elem(&own, &key);
	return as ? *as : 0;
}

static __always_inline int own_has(const struct packet *p, const __u8 *addr, __u16 vrf)
{
	return own_as(p, addr, vrf) & OWN_LOCAL;
}

/* The row of an outer header's key. Not inlined: kernels before 6.2 take a key from the stack only, and its 40 bytes are better not on the caller's. */
static __noinline struct tunnel *tunnel_row(const struct outer *o)
{
	struct tunnel_key key = o->key;

	return bpf_map_lookup_elem(&tunnels, &key);
}

/* What a tunnel says of the packets inside. */
static __always_inline int tunnel_enter(struct packet *p, const struct tunnel *t)
{
	if ((t->kind != TUNNEL_TO_NODE && t->kind != TUNNEL_TO_VTI) || (t->kind == TUNNEL_TO_NODE && !t->node))
		return DROP_NO_TABLE;
	p->tunnelled = 1;
	__builtin_memcpy(p->inner_mac, t->inner_mac, sizeof(p->inner_mac));
	p->port = t->port;
	p->table = t->table;
	p->deliver = t->deliver_ifindex;
	p->key.vrf = t->vrf;
	if (t->kind == TUNNEL_TO_NODE) {
		node_mark(p, t->node);
		p->strict = t->strict_return;
		p->asked = t->flags;
	} else {
		p->classify = t->flags & PORT_CLASSIFY;
	}
	return 0;
}

/*
 * The packet inside begins at `at`, of this protocol type; what the tunnel's row says must be inside must be. In front of an inner IP packet the
 * tail of the outer header becomes an Ethernet header to the VTI, so that from here on every inner packet has one.
 */
static __always_inline int inner_begin(struct xdp_md *ctx, struct packet *p, const struct tunnel *t, __u32 at, __be16 type)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u8 *eth;

	if (t->inner_l3 ? type != bpf_htons(ETH_P_IP) && type != bpf_htons(ETH_P_IPV6) : type != bpf_htons(INNER_ETHERNET))
		return DROP_TUNNEL_HEADER;
	if (t->inner_l3)
		at -= ETH_HLEN;
	at &= 0x1ff;
	eth = data + at;
	if ((void *)(eth + ETH_HLEN) > end)
		return DROP_MALFORMED;
	if (t->inner_l3) {
		__builtin_memcpy(eth, t->inner_mac, 6);
		__builtin_memcpy(eth + 6, t->inner_mac, 6);
		*(__be16 *)(eth + 12) = type;
	}
	p->l2 = at;
	p->frame -= at;
	if (t->port)
		p->count_port = t->port;
	return tunnel_enter(p, t);
}

#endif
