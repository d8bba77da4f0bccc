/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors that routers of the underlay send to us: tunnel-gw gets a copy, the local stack the packet.
 *
 * They may be about a packet of a tunnel, of which they often quote no more than the outer headers (RFC 792: 64 bits behind the IP
 * header). What tunnel-gw makes of them: a size that the way to the tunnel's end takes, and an error about the inner packet where it is
 * quoted (RFC 2003 5, RFC 2473 8). Limited by a token bucket per router.
 */
#ifndef DETOUR_OUTER_ERROR_H
#define DETOUR_OUTER_ERROR_H

#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "punt.h"
#include "tunnel.h"

RARE int outer_error(struct xdp_md *ctx, struct packet *p, const struct control *c)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct ethhdr *eth = data;
	struct scratch *s;
	__u8 *icmp;

	if (!p || !c || (void *)(eth + 1) > end)
		return 0;
	if (ethertype_of(eth) == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (struct iphdr *)(eth + 1);

		icmp = (__u8 *)(ip + 1);
		if ((void *)(icmp + 8) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_ICMP ||
		    (ip->frag_off & bpf_htons(IP4_MORE_OR_OFFSET)))
			return 0;
		if (icmp[0] != ICMP4_UNREACHABLE && icmp[0] != ICMP4_EXCEEDED)
			return 0;
		key_set4(p, ip->saddr, ip->daddr, 0, 0);
	} else if (ethertype_of(eth) == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (struct ipv6hdr *)(eth + 1);

		icmp = (__u8 *)(ip + 1);
		if ((void *)(icmp + 8) > end || ip->version != 6 || ip->nexthdr != IPPROTO_ICMPV6)
			return 0;
		if (icmp[0] < 1 || icmp[0] > ICMP6_ERROR_LAST)
			return 0;
		key_set6(p, &ip->saddr, &ip->daddr, 0, 0);
	} else {
		return 0;
	}
	s = scratch_here();
	if (!s || !own_has(p, packet_dst(p), 0) || !punt_allowed(p, c, PUNT_OUTER_ERROR))
		return 0;
	event_fill(&s->event, p, EVENT_OUTER_ERROR);
	punt_send(ctx, p, s);
	return 0;
}

#endif
