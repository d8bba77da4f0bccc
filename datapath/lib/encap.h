/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Towards a node or into a VTI: the hop's ready-made outer header goes in front, lengths, checksum, entropy and ECN are filled in.
 *
 * header[] ends with the inner Ethernet header (unless the tunnel carries L3), which replaces the packet's own, the EtherType apart. The outer IPv4 checksum
 * comes from the row's sum and the length alone; DF is set and the identification 0 (RFC 6864 4.1). The outer UDP checksum is 0, for
 * IPv6 as RFC 6935 allows tunnels, unless the row asks for one; the UDP source port is the flow's entropy (RFC 7348 5, RFC 8926 3.3), which GRE
 * over IPv6 has in the flow label (RFC 6438). ECN is copied outwards (RFC 6040 normal mode), DSCP stays the template's: the underlay's classes are
 * not a tenant's to choose (RFC 2983 pipe model).
 */
#ifndef DETOUR_ENCAP_H
#define DETOUR_ENCAP_H

#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "punt.h"
#include "checksum.h"
#include "geneve.h"

enum encap_limit {
	VXLAN4_HEADER = 64, /* Ethernet, IPv4, UDP, VXLAN or Geneve without options, Ethernet: copied by words */
	OUTER_L3_MAX = 40,
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
static __always_inline int outer_finish(struct xdp_md *ctx, const struct hop *hop, __u32 l3, __u16 entropy, __u8 ecn, int has_udp)
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
		if (!has_udp)
			return 0;
		udp->len = bpf_htons(len - sizeof(*ip));
	} else {
		struct ipv6hdr *ip = data + l3;

		udp = (struct udphdr *)(ip + 1);
		if ((void *)(udp + 1) > end)
			return DROP_ADJUST;
		ip->payload_len = bpf_htons(len - sizeof(*ip));
		((__u8 *)ip)[1] |= ecn << 4;
		if (!has_udp) {
			((__be16 *)ip)[1] = bpf_htons(entropy);
			return 0;
		}
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
	return outer_finish(ctx, hop, l3, entropy, ecn, hop->tunnel == TUNNEL_VXLAN || hop->tunnel == TUNNEL_GENEVE);
}

/* The checksum over all behind the outer IP header, of GRE or UDP; its field is 0 in the row. */
RARE int header_checksum(struct xdp_md *ctx, const struct hop *hop)
{
	__u32 l3, l4, field, start = 0, sum, len = packet_data_end(ctx) - packet_data(ctx);
	int udp;
	__u16 check;

	if (!hop)
		return DROP_NO_TABLE;
	udp = hop->tunnel == TUNNEL_VXLAN || hop->tunnel == TUNNEL_GENEVE;
	l3 = hop->outer_l3;
	l4 = l3 + (hop->outer_ip6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	if (l3 > OUTER_L3_MAX || len < l4)
		return DROP_NO_TABLE;
	len -= l4;
	field = l4 + (udp ? offsetof(struct udphdr, check) : 4);
	if (udp)
		start = checksum_pseudo(ctx, l3, len, hop->outer_ip6);
	sum = checksum_range(ctx, l4, len, start);
	if (start == CHECKSUM_NONE || sum == CHECKSUM_NONE)
		return DROP_TOO_BIG;
	check = ~sum;
	if (udp && !check)
		check = 0xffff; /* 0 would mean that there is none (RFC 768) */
	return bpf_xdp_store_bytes(ctx, field, &check, sizeof(check)) ? DROP_ADJUST : 0;
}

/* What the row leaves to the flow: cookie, our option. */
RARE int header_flow(struct xdp_md *ctx, const struct packet *p, const struct hop *hop)
{
	struct { __u8 version, flags, sidx, budget; __be32 path; __be16 chain; } option;
	__u32 zero = 0, at;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	__be32 cookie;

	if (!p || !hop || !c)
		return DROP_NO_TABLE;
	at = hop->patch_at;
	if (at > DT_MAX_HEADER)
		return DROP_NO_TABLE;
	cookie = p->slot ? bpf_htonl(flow_cookie(p->slot, c)) : 0;
	if (hop->flags & HOP_COOKIE)
		return bpf_xdp_store_bytes(ctx, at, &cookie, sizeof(cookie)) ? DROP_ADJUST : 0;
	option.version = GENEVE_PATH_VERSION;
	option.flags = p->dir ? GENEVE_PATH_REVERSE : 0;
	option.sidx = p->sidx;
	option.budget = GENEVE_HOP_BUDGET;
	option.path = bpf_htonl(p->path);
	option.chain = bpf_htons(p->chain);
	if (bpf_xdp_store_bytes(ctx, at + offsetof(struct geneve_path, version), &option, 10) ||
	    bpf_xdp_store_bytes(ctx, at + offsetof(struct geneve_path, cookie_be), &cookie, sizeof(cookie)))
		return DROP_ADJUST;
	return 0;
}

/* What only some rows ask for, when all else is in place. */
static __always_inline int header_extra(struct xdp_md *ctx, const struct packet *p, const struct hop *hop)
{
	int why;

	if ((hop->flags & (HOP_COOKIE | HOP_PATH)) && (why = header_flow(ctx, p, hop)))
		return why;
	return hop->flags & HOP_CHECKSUM ? header_checksum(ctx, hop) : 0;
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
	return outer_finish(ctx, hop, ETH_HLEN, entropy, ecn, 1);
}

/* The same with any header; the EtherType of the inner Ethernet header, or of what a tunnel of IP packets says, is the packet's. */
RARE int header_put(struct xdp_md *ctx, const struct packet *p, struct hop *hop, __u16 entropy, __u8 ecn)
{
	__be16 type;
	__u32 at;
	int why;

	if (!hop || !p || (why = header_store(ctx, hop, hop->header_len, entropy, ecn)))
		return hop && p ? why : DROP_NO_TABLE;
	type = p->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	at = hop->type_at;
	if (at > DT_MAX_HEADER || bpf_xdp_store_bytes(ctx, at, &type, sizeof(type)))
		return DROP_ADJUST;
	return header_extra(ctx, p, hop);
}

/* Sends the packet by a hop row; what is in front of its IP header is replaced. */
static __always_inline int hop_send(struct xdp_md *ctx, struct packet *p, __u32 number, __u16 entropy)
{
	struct hop *hop = hop_row(p->bank, number);
	__be16 type = p->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	int grow, why;
	__u8 ecn;

	if (!hop)
		return DROP_NO_TABLE;
	if (hop->kind != HOP_TUNNEL)
		return PACKET_FRAME;
	if (!hop->mtu)
		return hop_not_ready(p, hop, number);
	if (p->frame - ETH_HLEN > hop->mtu) {
		p->fits = hop->mtu;
		return DROP_TOO_BIG;
	}
	ecn = packet_ecn(ctx, p);
	grow = (int)(p->l2 + ETH_HLEN) - hop->header_len;
	if (grow && bpf_xdp_adjust_head(ctx, grow))
		return DROP_ADJUST;
	if (hop->header_len == VXLAN4_HEADER && hop->outer_l3 == ETH_HLEN && !hop->outer_ip6 && !hop->flags)
		why = header_copy(ctx, hop, entropy, ecn, type);
	else
		why = header_put(ctx, p, hop, entropy, ecn);
	p->out = hop->ifindex;
	return why ? why : PACKET_FORWARD;
}

/* What the gateway's kernel sends into a VTI: its own Ethernet header stays as the inner one where the tunnel carries L2. */
RARE int vti_send(struct xdp_md *ctx, struct packet *p, const struct port *port)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 len, strip;
	struct hop *hop;
	__be16 type;
	__u8 ecn = 0;
	int why;

	if (!p || !port)
		return DROP_NO_TABLE;
	hop = hop_row(p->bank, port->hop);
	if (!hop || hop->kind != HOP_TUNNEL || hop->header_len < ETH_HLEN)
		return DROP_NO_TABLE;
	if (!hop->mtu)
		return hop_not_ready(p, hop, port->hop);
	if (data + ETH_HLEN > end)
		return DROP_MALFORMED;
	if (p->frame - ETH_HLEN > hop->mtu)
		return DROP_TOO_BIG;
	type = ethertype_of(data);
	p->v6 = type == bpf_htons(ETH_P_IPV6);
	if (p->v6 || type == bpf_htons(ETH_P_IP))
		ecn = packet_ecn(ctx, p);
	else if (hop->inner_l3)
		return DROP_UNSUPPORTED;
	strip = hop->inner_l3 ? ETH_HLEN : 0;
	len = hop->header_len - (ETH_HLEN - strip);
	if (bpf_xdp_adjust_head(ctx, (int)strip - (int)len))
		return DROP_ADJUST;
	p->out = hop->ifindex;
	if (strip)
		why = header_put(ctx, p, hop, ENTROPY_BASE | (port->hop & 0x3fff), ecn);
	else if (!(why = header_store(ctx, hop, len, ENTROPY_BASE | (port->hop & 0x3fff), ecn)))
		why = header_extra(ctx, p, hop);
	return why ? why : PACKET_FORWARD;
}

#endif
