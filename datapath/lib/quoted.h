/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors: the key of the flow that one quotes, and its own (RFC 792, RFC 4443). */
#ifndef DETOUR_QUOTED_H
#define DETOUR_QUOTED_H

#include "packet.h"
#include "flow-key.h"

enum icmp4_type { ICMP4_ECHO_REPLY = 0, ICMP4_UNREACHABLE = 3, ICMP4_QUENCH = 4, ICMP4_ECHO = 8, ICMP4_EXCEEDED = 11, ICMP4_PARAMETER = 12 };
enum icmp6_type { ICMP6_ERROR_LAST = 4, ICMP6_ECHO = 128, ICMP6_ECHO_REPLY = 129, ICMP6_MLD_FIRST = 130, ICMP6_MLD_LAST = 132,
		  ICMP6_ND_FIRST = 133, ICMP6_ND_LAST = 137, ICMP6_MLD2 = 143 };

/* The flow of the packet that an ICMP error quotes; the error travels against it. Nothing usable quoted: the key stays. */
RARE int parse_quoted(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__be16 sport = 0, dport = 0;
	__u8 *l4, proto;
	void *quote;

	if (!p)
		return DROP_MALFORMED;
	quote = data + (p->l4 & 0x3ff) + 8;
	if (p->v6) {
		struct ipv6hdr *ip = quote;

		if ((void *)(ip + 1) > end || ip->version != 6)
			return 0;
		proto = ip->nexthdr;
		l4 = (__u8 *)(ip + 1);
	} else {
		struct iphdr *ip = quote;

		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
			return 0;
		proto = ip->protocol;
		l4 = quote + ip->ihl * 4;
		if (ip->frag_off & bpf_htons(0x1fff))
			return 0;
	}
	if ((void *)(l4 + 8) > end)
		return 0;
	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP) {
		sport = *(__be16 *)l4;
		dport = *(__be16 *)(l4 + 2);
	} else if (p->v6 ? proto == IPPROTO_ICMPV6 && (l4[0] == ICMP6_ECHO || l4[0] == ICMP6_ECHO_REPLY)
			 : proto == IPPROTO_ICMP && (l4[0] == ICMP4_ECHO || l4[0] == ICMP4_ECHO_REPLY)) {
		sport = dport = *(__be16 *)(l4 + 4);
	}
	if (p->v6) {
		struct ipv6hdr *ip = quote;

		key_set6(p, &ip->saddr, &ip->daddr, sport, dport);
	} else {
		struct iphdr *ip = quote;

		key_set4(p, ip->saddr, ip->daddr, sport, dport);
	}
	p->key.proto = proto;
	p->norm ^= 1;
	p->quoted = 1;
	return 0;
}

/* The key of the packet itself, ports 0: for an ICMP error whose quoted flow is not known here. */
RARE int parse_unquoted(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	void *l3;

	if (!p)
		return DROP_MALFORMED;
	l3 = data + packet_l2(p) + ETH_HLEN;
	p->quoted = 0;
	p->key.scope = 0;
	if (p->v6) {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return DROP_MALFORMED;
		key_set6(p, &ip->saddr, &ip->daddr, 0, 0);
		p->key.proto = IPPROTO_ICMPV6;
	} else {
		struct iphdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return DROP_MALFORMED;
		key_set4(p, ip->saddr, ip->daddr, 0, 0);
		p->key.proto = IPPROTO_ICMP;
	}
	return 0;
}

#endif
