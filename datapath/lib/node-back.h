/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Back to the gateway: what came in front of the flow's packets goes in front of this one, options, ports and tunnel header as they came. Only ends
 * are swapped (MAC and IP addresses, outside and inside), TTL is a new packet's, lengths, ECN and checksums are this packet's.
 */
#ifndef DETOUR_NODE_BACK_H
#define DETOUR_NODE_BACK_H

#include "node-maps.h"
#include "packet.h"
#include "checksum.h"
#include "tunnel-const.h"

enum { NODE_TTL = 64 };

static __always_inline void mac_swap(void *eth)
{
	__u16 *m = eth, a = m[0], b = m[1], c = m[2];

	m[0] = m[3], m[1] = m[4], m[2] = m[5];
	m[3] = a, m[4] = b, m[5] = c;
}

/* Where there was a checksum over GRE, or outer UDP, there is one again. */
RARE int node_back_checksum(struct xdp_md *ctx, __u32 l4, __u32 ip6, __u32 udp)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 len = end - data, start = 0, sum;
	__u8 *head = data + (l4 & 0x7f);
	__u16 *field, check;

	if (len < l4 || (void *)(head + 8) > end)
		return DROP_ADJUST;
	len -= l4;
	if (!udp && !(bpf_ntohs(*(__be16 *)head) & GRE_CHECKSUM))
		return 0;
	field = (__u16 *)(head + (udp ? offsetof(struct udphdr, check) : 4));
	if (udp && !*field)
		return 0;
	*field = 0;
	if (udp)
		start = checksum_pseudo(ctx, ETH_HLEN, len, ip6);
	sum = checksum_range(ctx, l4, len, start);
	if (start == CHECKSUM_NONE || sum == CHECKSUM_NONE)
		return DROP_TOO_BIG;
	check = ~sum;
	if (udp && !check)
		check = 0xffff; /* 0 would mean that there is none (RFC 768) */
	return bpf_xdp_store_bytes(ctx, l4 + (udp ? offsetof(struct udphdr, check) : 4), &check, sizeof(check)) ? DROP_ADJUST : 0;
}

/* A frame that begins with an outer header as it came is turned round; everything that depends on the packet is filled in. */
RARE int node_turn(struct xdp_md *ctx, __u32 ip6, __u32 udp, __u32 ecn)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 len = end - data - ETH_HLEN, l4;
	struct udphdr *u;

	if (len > 0xffff || data + ETH_HLEN > end)
		return DROP_TOO_BIG;
	mac_swap(data);
	if (ip6) {
		struct ipv6hdr *ip = data + ETH_HLEN;
		struct in6_addr was;

		u = (struct udphdr *)(ip + 1);
		if ((void *)(u + 1) > end)
			return DROP_ADJUST;
		was = ip->saddr;
		ip->saddr = ip->daddr;
		ip->daddr = was;
		ip->hop_limit = NODE_TTL;
		ip->payload_len = bpf_htons(len - sizeof(*ip));
		((__u8 *)ip)[1] = (((__u8 *)ip)[1] & ~(ECN_MASK << 4)) | ecn << 4;
		l4 = ETH_HLEN + sizeof(*ip);
		len -= sizeof(*ip);
	} else {
		struct iphdr *ip = data + ETH_HLEN;
		__be32 was;

		u = (struct udphdr *)(ip + 1);
		if ((void *)(u + 1) > end)
			return DROP_ADJUST;
		was = ip->saddr;
		ip->saddr = ip->daddr;
		ip->daddr = was;
		ip->ttl = NODE_TTL;
		ip->id = 0; /* RFC 6864 4.1: atomic, DF */
		ip->frag_off = bpf_htons(0x4000);
		ip->tot_len = bpf_htons(len);
		ip->tos = (ip->tos & ~ECN_MASK) | ecn;
		ip->check = 0;
		ip->check = ~csum_fold(csum_words(ip));
		l4 = ETH_HLEN + sizeof(*ip);
		len -= sizeof(*ip);
	}
	if (udp)
		u->len = bpf_htons(len);
	return node_back_checksum(ctx, l4, ip6, udp);
}

/* The packet, behind its own Ethernet header, gets the header that came with its flow. */
RARE int node_back_put(struct xdp_md *ctx, struct node_back *back, const struct node_settings *s, __u32 ecn)
{
	void *data, *end;
	__u32 len;
	int why;

	if (!back || !s)
		return DROP_NO_TABLE;
	len = back->len;
	if (len > NODE_MAX_HEADER)
		return DROP_NO_TABLE;
	asm volatile("" : "+r"(len)); /* two comparisons, not one of a difference: kernel 6.1 follows these */
	if (len < ETH_HLEN)
		return DROP_NO_TABLE;
	if (bpf_xdp_adjust_head(ctx, ETH_HLEN - (int)len))
		return DROP_ADJUST;
	if (bpf_xdp_store_bytes(ctx, 0, back->header, len))
		return DROP_ADJUST;
	if (!s->inner_l3) {
		data = packet_data(ctx), end = packet_data_end(ctx);
		data += (len - ETH_HLEN) & 0x1ff;
		if (data + ETH_HLEN > end)
			return DROP_ADJUST;
		mac_swap(data);
	}
	why = node_turn(ctx, back->ip6, s->proto == TUNNEL_VXLAN || s->proto == TUNNEL_GENEVE, ecn);
	return why;
}

#endif
