/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The arm of a router is a device that the machine uses too: it asks for the router's MAC address there and answers for its own. What is not routed
 * to us is the stack's; the rest has crossed the router and goes back into the tunnel.
 */
#ifndef DETOUR_NODE_ARM_H
#define DETOUR_NODE_ARM_H

#include "node-maps.h"
#include "node-outer.h"

enum node_arm_const {
	ND_FIRST = 133, /* ICMPv6 types of neighbour discovery (RFC 4861 4), to */
	ND_LAST = 137,
	ND_HOP_LIMIT = 255,
};

/* 1: another MAC address than the arm's (multicast too), no IP, to the machine's own address there, or neighbour discovery. */
RARE int node_arm_local(struct xdp_md *ctx, const struct node_settings *s, __u32 side)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	const __u8 *mac, *own;
	__u8 *eth = data, to[16] = {};

	if (!s || (void *)(eth + ETH_HLEN + sizeof(struct iphdr)) > end)
		return 1;
	mac = side ? s->from_mac + 6 : s->from_mac;
	own = side ? s->own + 16 : s->own;
	for (__u32 i = 0; i < 6; i++)
		if (eth[i] != mac[i])
			return 1;
	if (ethertype_of(data) == bpf_htons(ETH_P_IP)) {
		key_put4(to, ((struct iphdr *)(eth + ETH_HLEN))->daddr);
	} else if (ethertype_of(data) == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + ETH_HLEN;
		__u8 *type = (__u8 *)(ip + 1);

		if ((void *)(type + 1) > end)
			return 1;
		if (ip->nexthdr == IPPROTO_ICMPV6 && ip->hop_limit == ND_HOP_LIMIT && *type >= ND_FIRST && *type <= ND_LAST)
			return 1;
		__builtin_memcpy(to, &ip->daddr, sizeof(to));
	} else {
		return 1;
	}
	return addr_same(to, own);
}

#endif
