/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The underlay: which packets are tunnel packets for us, whose they are, and what is inside. Geneve and GRE are in geneve.h and gre.h.
 *
 * VXLAN (RFC 7348) over IPv4 and IPv6 to UDP port 4789. The outer source, destination and VNI together name the tunnel; a packet to one of
 * our addresses that no row knows is dropped. The I flag must be set, reserved fields are ignored on receipt (RFC 7348 5).
 * The outer IPv4 header checksum and all lengths are verified. The outer UDP checksum is not, zero or not, which section 4.1 leaves to the
 * receiver's choice: what it would protect is covered by the outer header's own checksum, the tunnel row, the inner header's checksum
 * (verified here) and the inner transport checksum (verified by the end points). An IPv6 outer header has no checksum of its own; a
 * flipped address or VNI would have to name another known tunnel (RFC 6936 4 weighs this).
 * Outer fragments are dropped: the first one is known by its port; the others name none, go to the stack and end there, incomplete.
 * Outer IPv4 options are nobody's way to send VXLAN: such a packet goes to the stack, which has no socket there.
 * ECN: congestion marked on the underlay is carried over into the inner packet (RFC 6040 4.2), or drops it where it cannot be said; so
 * early that the next node of a chain gets it too.
 */
#ifndef DETOUR_TUNNEL_H
#define DETOUR_TUNNEL_H

#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "tunnel-end.h"
#include "ecn.h"
#include "geneve.h"
#include "gre.h"

/* The outer header, up to what the key needs; 0 with l4 at the UDP header. */
static __always_inline int outer_parse(struct xdp_md *ctx, struct packet *p, struct tunnel_key *key, __u32 *l4)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct ethhdr *eth = data;
	struct udphdr *udp;

	if ((void *)(eth + 1) > end)
		return PACKET_PASS;
	if (ethertype_of(eth) == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (struct iphdr *)(eth + 1);

		udp = (struct udphdr *)(ip + 1);
		if ((void *)(udp + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP ||
		    (ip->frag_off & bpf_htons(0x1fff)) || udp->dest != bpf_htons(VXLAN_PORT))
			return PACKET_PASS;
		key_put4(key->src, ip->saddr);
		key_put4(key->dst, ip->daddr);
		if (csum_fold(csum_words(ip)) != 0xffff || bpf_ntohs(ip->tot_len) + ETH_HLEN > end - data ||
		    bpf_ntohs(udp->len) + sizeof(*ip) != bpf_ntohs(ip->tot_len))
			return ip->frag_off & bpf_htons(IP4_MORE_OR_OFFSET) ? DROP_FRAGMENT : DROP_MALFORMED;
		if (ip->frag_off & bpf_htons(IP4_MORE_OR_OFFSET))
			return DROP_FRAGMENT;
		p->outer_ecn = ip->tos & ECN_MASK;
		*l4 = ETH_HLEN + sizeof(*ip);
		return 0;
	}
	if (ethertype_of(eth) == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (struct ipv6hdr *)(eth + 1);

		udp = (struct udphdr *)(ip + 1);
		if ((void *)(ip + 1) > end || ip->version != 6)
			return PACKET_PASS;
		if (ip->nexthdr == IPPROTO_FRAGMENT) {
			__u8 *fragment = (__u8 *)(ip + 1);

			if ((void *)(fragment + 16) > end || fragment[0] != IPPROTO_UDP ||
			    (*(__be16 *)(fragment + 2) & bpf_htons(0xfff8)) || *(__be16 *)(fragment + 10) != bpf_htons(VXLAN_PORT))
				return PACKET_PASS;
			key_put6(key->dst, &ip->daddr);
			return DROP_FRAGMENT;
		}
		if ((void *)(udp + 1) > end || ip->nexthdr != IPPROTO_UDP || udp->dest != bpf_htons(VXLAN_PORT))
			return PACKET_PASS;
		key_put6(key->src, &ip->saddr);
		key_put6(key->dst, &ip->daddr);
		if (bpf_ntohs(ip->payload_len) + (long)sizeof(*ip) + ETH_HLEN > end - data || udp->len != ip->payload_len)
			return DROP_MALFORMED;
		p->outer_ecn = ((__u8 *)ip)[1] >> 4 & ECN_MASK;
		*l4 = ETH_HLEN + sizeof(*ip);
		return 0;
	}
	return PACKET_PASS;
}

/* The outer header of what is no VXLAN: 0 for Geneve and GRE, with all of *o; an IPv4 header with options is nobody's way to send either. */
static __always_inline int outer_other4(struct xdp_md *ctx, struct packet *p, struct outer *o)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct iphdr *ip = data + ETH_HLEN;
	struct udphdr *udp = (struct udphdr *)(ip + 1);
	__u32 len, least = 4;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5)
		return PACKET_PASS;
	o->proto = ip->protocol;
	if (o->proto == IPPROTO_UDP) {
		least = sizeof(*udp);
		if ((ip->frag_off & bpf_htons(0x1fff)) || (void *)(udp + 1) > end || udp->dest != bpf_htons(GENEVE_PORT))
			return PACKET_PASS;
	} else if (o->proto != IPPROTO_GRE) {
		return PACKET_PASS;
	}
	key_put4(o->key.src, ip->saddr);
	key_put4(o->key.dst, ip->daddr);
	p->outer_ecn = ip->tos & ECN_MASK;
	o->l4 = ETH_HLEN + sizeof(*ip);
	if (csum_fold(csum_words(ip)) != 0xffff)
		return DROP_MALFORMED;
	if (ip->frag_off & bpf_htons(IP4_MORE_OR_OFFSET))
		return DROP_FRAGMENT;
	len = bpf_ntohs(ip->tot_len);
	if (len < sizeof(*ip) + least || len + ETH_HLEN > end - data)
		return DROP_MALFORMED;
	o->bytes = len - sizeof(*ip);
	return o->proto == IPPROTO_UDP && bpf_ntohs(udp->len) != o->bytes ? DROP_MALFORMED : 0;
}

static __always_inline int outer_other6(struct xdp_md *ctx, struct packet *p, struct outer *o)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct ipv6hdr *ip = data + ETH_HLEN;
	struct udphdr *udp = (struct udphdr *)(ip + 1);
	__u8 *fragment = (__u8 *)(ip + 1);

	if ((void *)(ip + 1) > end || ip->version != 6)
		return PACKET_PASS;
	key_put6(o->key.src, &ip->saddr);
	key_put6(o->key.dst, &ip->daddr);
	p->outer_ecn = ((__u8 *)ip)[1] >> 4 & ECN_MASK;
	o->l4 = ETH_HLEN + sizeof(*ip);
	o->ip6 = 1;
	o->proto = ip->nexthdr;
	o->bytes = bpf_ntohs(ip->payload_len);
	if (o->proto == IPPROTO_FRAGMENT) {
		if ((void *)(fragment + 8) > end)
			return PACKET_PASS;
		if (fragment[0] == IPPROTO_GRE)
			return DROP_FRAGMENT;
		if (fragment[0] != IPPROTO_UDP || (*(__be16 *)(fragment + 2) & bpf_htons(0xfff8)) || (void *)(fragment + 16) > end ||
		    *(__be16 *)(fragment + 10) != bpf_htons(GENEVE_PORT))
			return PACKET_PASS;
		return DROP_FRAGMENT;
	}
	if (o->proto == IPPROTO_UDP) {
		if ((void *)(udp + 1) > end || udp->dest != bpf_htons(GENEVE_PORT))
			return PACKET_PASS;
		if (bpf_ntohs(udp->len) != o->bytes)
			return DROP_MALFORMED;
	} else if (o->proto != IPPROTO_GRE) {
		return PACKET_PASS;
	}
	return o->bytes < 4 || o->bytes + (__u32)sizeof(*ip) + ETH_HLEN > end - data ? DROP_MALFORMED : 0;
}

/* Geneve and GRE, apart from VXLAN so that its way stays short. */
RARE int tunnel_other(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct outer o = {};
	int why = PACKET_PASS;

	if (!p)
		return DROP_MALFORMED;
	o.key.bank = p->bank;
	o.l3 = ETH_HLEN;
	if (data + ETH_HLEN > end)
		return PACKET_PASS;
	if (ethertype_of(data) == bpf_htons(ETH_P_IP))
		why = outer_other4(ctx, p, &o);
	else if (ethertype_of(data) == bpf_htons(ETH_P_IPV6))
		why = outer_other6(ctx, p, &o);
	if (why == PACKET_PASS || !own_has(p, o.key.dst, 0))
		return PACKET_PASS;
	if (why)
		return why;
	return o.proto == IPPROTO_GRE ? gre_take(ctx, p, &o) : geneve_take(ctx, p, &o);
}

/* The tunnel of an underlay packet; everything that is not a tunnel packet for us goes to the stack. */
static __always_inline int tunnel_take(struct xdp_md *ctx, struct packet *p)
{
	struct tunnel_key key = { .proto = TUNNEL_VXLAN, .bank = p->bank };
	void *data, *end;
	struct tunnel *t;
	__u8 *vxlan;
	__u32 l4 = 0;
	int why = outer_parse(ctx, p, &key, &l4);

	if (why == PACKET_PASS)
		return tunnel_other(ctx, p);
	if (why)
		return own_has(p, key.dst, 0) ? why : PACKET_PASS;
	data = packet_data(ctx), end = packet_data_end(ctx);
	vxlan = data + l4 + sizeof(struct udphdr);
	if ((void *)(vxlan + VXLAN_HEADER + ETH_HLEN) > end)
		return own_has(p, key.dst, 0) ? DROP_MALFORMED : PACKET_PASS;
	key.vni = bpf_ntohl(*(__be32 *)(vxlan + 4)) >> 8;
	t = bpf_map_lookup_elem(&tunnels, &key);
	if (!t || !(vxlan[0] & VXLAN_FLAG_I)) {
		if (!own_has(p, key.dst, 0))
			return PACKET_PASS;
		return t ? DROP_TUNNEL_HEADER : DROP_TUNNEL_UNKNOWN;
	}
	if (t->inner_l3)
		return DROP_NO_TABLE;
	p->l2 = l4 + sizeof(struct udphdr) + VXLAN_HEADER;
	p->frame -= p->l2;
	if (t->port)
		p->count_port = t->port;
	return tunnel_enter(p, t);
}

/* To the local stack through the device that says where it came from: the VTI's veth, or the port itself. */
RARE int packet_pass(struct xdp_md *ctx, struct packet *p)
{
	void *data, *end;
	__u8 *mac;

	if (!p || (!p->l2 && !p->deliver))
		return PACKET_PASS;
	if (p->tunnelled && !p->deliver)
		return DROP_NO_TABLE;
	if (p->l2 && bpf_xdp_adjust_head(ctx, p->l2))
		return DROP_ADJUST;
	p->out = p->deliver;
	data = packet_data(ctx), end = packet_data_end(ctx);
	mac = data;
	if (data + ETH_HLEN > end)
		return DROP_ADJUST;
	if (p->tunnelled && !(mac[0] & 1) && (p->inner_mac[0] | p->inner_mac[1] | p->inner_mac[2] | p->inner_mac[3] | p->inner_mac[4] | p->inner_mac[5]))
		__builtin_memcpy(mac, p->inner_mac, 6);
	return PACKET_PASS;
}

#endif
