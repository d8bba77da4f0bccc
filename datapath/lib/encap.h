/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Towards a node or into a VTI: the hop's ready-made outer header goes in front, lengths, checksum, entropy and ECN are filled in.
 *
 * header[] ends with the inner Ethernet header (unless the tunnel carries L3), which replaces the packet's own, the EtherType apart. The outer IPv4 checksum
 * comes from the row's sum and the length alone; DF is set and the identification 0 (RFC 6864 4.1). The outer UDP checksum is 0, for
 * IPv6 as RFC 6935 allows tunnels; the UDP source port is the flow's entropy (RFC 7348 5). ECN is copied outwards (RFC 6040 normal
 * mode), DSCP stays the template's: the underlay's classes are not a tenant's to choose (RFC 2983 pipe model).
 */
#ifndef DETOUR_ENCAP_H
#define DETOUR_ENCAP_H

#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "punt.h"

enum encap_limit {
	VXLAN4_HEADER = 64, /* Ethernet, IPv4, UDP, VXLAN, Ethernet: copied by words */
	OUTER_L3_MAX = 40,
	ECN_MASK = 3,
	ENTROPY_BASE = 0xc000,
};

static __always_inline __u8 packet_ecn(struct xdp_md *ctx, const struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u8 *ip = data + packet_l2(p) + ETH_HLEN;

	if ((void *)(ip + 2) > end)
		return 0;
	return (p->v6 ? ip[1] >> 4 : ip[1]) & ECN_MASK;
}

/* Fills in what differs from packet to packet in an outer header that starts the frame. */
static __always_inline int outer_finish(struct xdp_md *ctx, const struct hop *hop, __u32 l3, __u16 entropy, __u8 ecn)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 len = end - data - l3;
	struct udphdr *udp;

	if (len > 0xffff)
		return DROP_TOO_BIG;
	if (!hop->outer_ip6) {
		struct iphdr *ip = data + l3;

		udp = (struct udphdr *)(ip + 1);
		if ((void *)(udp + 1) > end)
			return DROP_ADJUST;
		ip->tot_len = bpf_htons(len);
		ip->tos |= ecn;
		ip->check = ~csum_fold((__u64)hop->outer_csum + bpf_htons(len) + bpf_htons(ecn));
		udp->len = bpf_htons(len - sizeof(*ip));
	} else {
		struct ipv6hdr *ip = data + l3;

		udp = (struct udphdr *)(ip + 1);
		if ((void *)(udp + 1) > end)
			return DROP_ADJUST;
		ip->payload_len = bpf_htons(len - sizeof(*ip));
		((__u8 *)ip)[1] |= ecn << 4;
		udp->len = bpf_htons(len - sizeof(*ip));
	}
	udp->source = bpf_htons(entropy);
	return 0;
}

/* The first len bytes of the row's header, in front; the frame's start has been moved already. */
RARE int header_store(struct xdp_md *ctx, struct hop *hop, __u32 len, __u16 entropy, __u8 ecn)
{
	__u32 l3;

	if (!hop)
		return DROP_NO_TABLE;
	l3 = hop->outer_l3;
	if (len > DT_MAX_HEADER || l3 > OUTER_L3_MAX)
		return DROP_NO_TABLE;
	asm volatile("" : "+r"(len)); /* two comparisons, not one of a difference: kernel 6.1 follows these */
	if (len < ETH_HLEN)
		return DROP_NO_TABLE;
	if (bpf_xdp_store_bytes(ctx, 0, hop->header, len))
		return DROP_ADJUST;
	return outer_finish(ctx, hop, l3, entropy, ecn);
}

static __always_inline int header_copy(struct xdp_md *ctx, struct hop *hop, __u16 entropy, __u8 ecn, __be16 type)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u64 *to = data, *from = (__u64 *)hop->header;

	if (data + VXLAN4_HEADER > end)
		return DROP_ADJUST;
	to[0] = from[0], to[1] = from[1], to[2] = from[2], to[3] = from[3];
	to[4] = from[4], to[5] = from[5], to[6] = from[6], to[7] = from[7];
	((__be16 *)data)[VXLAN4_HEADER / 2 - 1] = type;
	return outer_finish(ctx, hop, ETH_HLEN, entropy, ecn);
}

/* The same with any header; the EtherType of its inner Ethernet header is the packet's. */
RARE int header_put(struct xdp_md *ctx, struct hop *hop, __u16 entropy, __u8 ecn, __be16 type)
{
	int why;

	if (!hop || (why = header_store(ctx, hop, hop->header_len, entropy, ecn)))
		return hop ? why : DROP_NO_TABLE;
	if (hop->inner_l3 || hop->header_len < ETH_HLEN)
		return 0;
	return bpf_xdp_store_bytes(ctx, hop->header_len - sizeof(type), &type, sizeof(type)) ? DROP_ADJUST : 0;
}

/* Sends the packet by a hop row; what is in front of its IP header is replaced. */
static __always_inline int hop_send(struct xdp_md *ctx, struct packet *p, __u32 number, __u16 entropy)
{
	struct hop *hop = hop_row(p->bank, number);
	__be16 type = p->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	int grow, why;
	__u8 ecn;

	if (!hop || hop->kind != HOP_TUNNEL)
		return DROP_NO_TABLE;
	if (!hop->mtu)
		return hop_not_ready(p, hop, number);
	if (p->frame - ETH_HLEN > hop->mtu)
		return DROP_TOO_BIG;
	ecn = packet_ecn(ctx, p);
	grow = (int)(p->l2 + ETH_HLEN) - hop->header_len;
	if (grow && bpf_xdp_adjust_head(ctx, grow))
		return DROP_ADJUST;
	if (hop->header_len == VXLAN4_HEADER && hop->outer_l3 == ETH_HLEN && !hop->outer_ip6)
		why = header_copy(ctx, hop, entropy, ecn, type);
	else
		why = header_put(ctx, hop, entropy, ecn, type);
	p->out = hop->ifindex;
	return why ? why : PACKET_FORWARD;
}

/* What the gateway's kernel sends into a VTI: its own Ethernet header stays as the inner one where the tunnel carries L2. */
RARE int vti_send(struct xdp_md *ctx, struct packet *p, const struct port *port)
{
	__u32 len, strip;
	struct hop *hop;
	int why;

	if (!p || !port)
		return DROP_NO_TABLE;
	hop = hop_row(p->bank, port->hop);
	if (!hop || hop->kind != HOP_TUNNEL || hop->header_len < ETH_HLEN)
		return DROP_NO_TABLE;
	if (!hop->mtu)
		return hop_not_ready(p, hop, port->hop);
	if (p->frame < ETH_HLEN)
		return DROP_MALFORMED;
	if (p->frame - ETH_HLEN > hop->mtu)
		return DROP_TOO_BIG;
	strip = hop->inner_l3 ? ETH_HLEN : 0;
	len = hop->header_len - (ETH_HLEN - strip);
	if (bpf_xdp_adjust_head(ctx, (int)strip - (int)len))
		return DROP_ADJUST;
	why = header_store(ctx, hop, len, ENTROPY_BASE | (port->hop & 0x3fff), 0);
	p->out = hop->ifindex;
	return why ? why : PACKET_FORWARD;
}

#endif
