/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Congestion marked on the underlay goes on in the inner packet (RFC 6040 4.2). */
#ifndef DETOUR_ECN_H
#define DETOUR_ECN_H

#include "packet.h"
#include "csum.h"

enum ecn_const {
	ECN_ECT1 = 1,
	ECN_ECT0 = 2,
	ECN_CE = 3,
	ECN_TOLD = 1, /* the bit of CE and ECT(1), which outside may say more than the packet does */
};

/* What the inner packet says then (RFC 6040 4.2, figure 4); -1: it cannot say it. */
static __always_inline int ecn_inner(__u8 inner, __u8 outer)
{
	if (outer == ECN_CE)
		return inner ? ECN_CE : -1;
	return outer == ECN_ECT1 && inner == ECN_ECT0 ? ECN_ECT1 : inner;
}

/* The underlay marked the outer packet: say so in the inner one. */
RARE int ecn_combine(struct xdp_md *ctx, const struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	void *l3;

	if (!p)
		return DROP_MALFORMED;
	l3 = data + packet_l2(p) + ETH_HLEN;
	if (p->v6) {
		__u8 *ip = l3;
		int ecn;

		if (l3 + sizeof(struct ipv6hdr) > end)
			return DROP_MALFORMED;
		ecn = ecn_inner(ip[1] >> 4 & ECN_MASK, p->outer_ecn);
		if (ecn < 0)
			return DROP_TUNNEL_HEADER;
		ip[1] = (ip[1] & ~(ECN_MASK << 4)) | ecn << 4;
	} else {
		struct iphdr *ip = l3;
		__u8 was;
		int ecn;

		if ((void *)(ip + 1) > end)
			return DROP_MALFORMED;
		was = ip->tos & ECN_MASK;
		ecn = ecn_inner(was, p->outer_ecn);
		if (ecn < 0)
			return DROP_TUNNEL_HEADER;
		ip->tos = (ip->tos & ~ECN_MASK) | ecn;
		ip->check = ~csum_fold((__u64)(__u16)~ip->check + (__u16)~bpf_htons(was) + bpf_htons(ecn));
	}
	return 0;
}

#endif
