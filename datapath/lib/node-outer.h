/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The underlay of a service node: which packets are a gateway's tunnel packets for it, and where the inner packet begins. What is no such packet,
 * a tunnel packet of a stranger too, is the local stack's: other tunnels may be on this machine.
 */
#ifndef DETOUR_NODE_OUTER_H
#define DETOUR_NODE_OUTER_H

#include "node-maps.h"
#include "packet.h"
#include "checksum.h"
#include "geneve-options.h"
#include "tunnel-const.h"
#include "transport.h"

/* An outer header that has been read. */
struct node_outer {
	__u8 src[16];
	__u32 l4;	/* offset of the header behind IP */
	__u32 bytes;	/* from l4 on, as the IP header says */
	__u32 at;	/* where the inner packet begins: an Ethernet header, or IP */
	__u32 number;	/* of the gateway */
	__u8 ip6;
	__u8 pad[3];
};

static __always_inline int addr_same(const __u8 *a, const __u8 *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

static __always_inline int addr_none(const __u8 *a)
{
	const __u32 *x = (const __u32 *)a;

	return !(x[0] | x[1] | x[2] | x[3]);
}

/* 1 when what is behind the IP header is our kind of tunnel. */
static __always_inline int node_carries(const struct node_settings *s, __u8 proto, struct udphdr *udp, void *end)
{
	if (s->proto == TUNNEL_GRE || s->proto == TUNNEL_GRE_PLAIN)
		return proto == IPPROTO_GRE;
	return proto == IPPROTO_UDP && (void *)(udp + 1) <= end &&
	       udp->dest == bpf_htons(s->proto == TUNNEL_VXLAN ? VXLAN_PORT : GENEVE_PORT);
}

/* 0 with *o, PACKET_PASS, or why it is dropped; o->src is there from when it is known to be a tunnel packet to us. */
RARE int node_outer_read(struct xdp_md *ctx, struct packet *p, struct node_outer *o, const struct node_settings *s)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct iphdr *ip = data + ETH_HLEN;
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	__u8 to[16] = {};
	__u32 len;

	if (!p || !o || !s || data + ETH_HLEN > end)
		return PACKET_PASS;
	if (ethertype_of(data) == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || (ip->frag_off & bpf_htons(IP4_OFFSET)) ||
		    !node_carries(s, ip->protocol, (struct udphdr *)(ip + 1), end))
			return PACKET_PASS;
		key_put4(to, ip->daddr);
		if (!addr_same(to, s->local))
			return PACKET_PASS;
		key_put4(o->src, ip->saddr);
		p->outer_ecn = ip->tos & ECN_MASK;
		o->l4 = ETH_HLEN + sizeof(*ip);
		if (csum_fold(csum_words(ip)) != 0xffff)
			return DROP_MALFORMED;
		if (ip->frag_off & bpf_htons(IP4_MORE_OR_OFFSET))
			return DROP_FRAGMENT;
		len = bpf_ntohs(ip->tot_len);
		if (len < sizeof(*ip) + 4 || len + ETH_HLEN > end - data)
			return DROP_MALFORMED;
		o->bytes = len - sizeof(*ip);
	} else if (ethertype_of(data) == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end || ip6->version != 6 || !node_carries(s, ip6->nexthdr, (struct udphdr *)(ip6 + 1), end))
			return PACKET_PASS;
		key_put6(to, &ip6->daddr);
		if (!addr_same(to, s->local))
			return PACKET_PASS;
		key_put6(o->src, &ip6->saddr);
		p->outer_ecn = ((__u8 *)ip6)[1] >> 4 & ECN_MASK;
		o->l4 = ETH_HLEN + sizeof(*ip6);
		o->ip6 = 1;
		o->bytes = bpf_ntohs(ip6->payload_len);
		if (o->bytes < 4 || o->bytes + (__u32)sizeof(*ip6) + ETH_HLEN > end - data)
			return DROP_MALFORMED;
	} else {
		return PACKET_PASS;
	}
	return 0;
}

static __always_inline int node_tag_wrong(const struct node_outer *o, __u32 tag)
{
	struct node_gateway_counters *c = node_counters_row(o->number);

	if (c) {
		c->wrong_tag_packets++;
		c->wrong_tag = tag;
	}
	return DROP_TUNNEL_UNKNOWN;
}

/* UDP with VXLAN or Geneve from o->l4 on: o->at and the type of what is inside. */
RARE int node_udp_read(struct xdp_md *ctx, struct packet *p, struct node_outer *o, const struct node_settings *s)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct udphdr *udp;
	__u32 tag, options;
	__u8 *tunnel;
	int why;

	if (!p || !o || !s)
		return DROP_MALFORMED;
	udp = data + (o->l4 & 0x7f);
	tunnel = (__u8 *)(udp + 1);
	if ((void *)(tunnel + GENEVE_HEADER) > end || o->bytes < sizeof(*udp) + GENEVE_HEADER || bpf_ntohs(udp->len) != o->bytes)
		return DROP_MALFORMED;
	tag = bpf_ntohl(*(__be32 *)(tunnel + 4)) >> 8;
	if (tag != s->tag)
		return node_tag_wrong(o, tag);
	o->at = (o->l4 & 0x7f) + sizeof(*udp) + GENEVE_HEADER;
	if (s->proto == TUNNEL_VXLAN)
		return tunnel[0] & VXLAN_FLAG_I ? 0 : DROP_TUNNEL_HEADER;
	if (udp->check && checksum_range(ctx, o->l4, o->bytes, checksum_pseudo(ctx, ETH_HLEN, o->bytes, o->ip6)) != 0xffff)
		return DROP_TUNNEL_CHECKSUM;
	options = (tunnel[0] & 0x3f) * 4;
	if (tunnel[0] >> 6 || (tunnel[1] & GENEVE_FLAG_O) || o->bytes < sizeof(*udp) + GENEVE_HEADER + options)
		return DROP_TUNNEL_HEADER;
	if (s->inner_l3 ? *(__be16 *)(tunnel + 2) != bpf_htons(ETH_P_IP) && *(__be16 *)(tunnel + 2) != bpf_htons(ETH_P_IPV6)
			: *(__be16 *)(tunnel + 2) != bpf_htons(INNER_ETHERNET))
		return DROP_TUNNEL_HEADER;
	p->v6 = *(__be16 *)(tunnel + 2) == bpf_htons(ETH_P_IPV6);
	if (options && (why = geneve_options(ctx, p, o->at, options, TUNNEL_PATH)))
		return why;
	o->at += options;
	return 0;
}

RARE int node_gre_read(struct xdp_md *ctx, struct packet *p, struct node_outer *o, const struct node_settings *s)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 l4, len = 4, tag = 0;
	__u16 flags;
	__be16 type;
	__u8 *gre;

	if (!p || !o || !s)
		return DROP_MALFORMED;
	l4 = o->l4 & 0x7f;
	gre = data + l4;
	if ((void *)(gre + 4) > end)
		return DROP_MALFORMED;
	flags = bpf_ntohs(*(__be16 *)gre);
	type = *(__be16 *)(gre + 2);
	if (flags & GRE_CHECKSUM)
		len += 4;
	if (flags & GRE_KEY) {
		__u8 *key = data + ((l4 + len) & 0x7f);

		if ((void *)(key + 4) > end)
			return DROP_MALFORMED;
		tag = bpf_ntohl(*(__be32 *)key);
		len += 4;
	}
	if (o->bytes < len)
		return DROP_MALFORMED;
	if (tag != s->tag || !(flags & GRE_KEY) != (s->proto == TUNNEL_GRE_PLAIN))
		return node_tag_wrong(o, tag);
	if ((flags & GRE_NONE_OF_OURS) || (s->inner_l3 ? type != bpf_htons(ETH_P_IP) && type != bpf_htons(ETH_P_IPV6)
						       : type != bpf_htons(INNER_ETHERNET)))
		return DROP_TUNNEL_HEADER;
	if ((flags & GRE_CHECKSUM) && checksum_range(ctx, l4, o->bytes, 0) != 0xffff)
		return DROP_TUNNEL_CHECKSUM;
	p->v6 = type == bpf_htons(ETH_P_IPV6);
	o->at = l4 + len;
	return 0;
}

#endif
