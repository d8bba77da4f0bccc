/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From an inner packet to the key of what is given back with it. Fragments are known by their datagram's identification, which a node that puts
 * datagrams together and cuts them again leaves as it was; ICMP errors are of the flow that they quote, against its direction.
 * Inner headers are checked as far as they are read. Their checksums are the node's business.
 */
#ifndef DETOUR_NODE_KEY_H
#define DETOUR_NODE_KEY_H

#include "packet.h"
#include "flow-key.h"
#include "transport.h"

/* The same addresses, by what is no port. */
static __always_inline void key_name(struct packet *p, __u8 scope, __u8 proto, __be16 high, __be16 low)
{
	p->key.scope = scope;
	p->key.proto = proto;
	p->key.aport_be = high;
	p->key.bport_be = low;
}

static __always_inline int node_key4(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct iphdr *ip = data + packet_l2(p) + ETH_HLEN;
	__be16 sport = 0, dport = 0;
	__u32 ihl, offset;
	int why;

	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	ihl = ip->ihl;
	p->ip_len = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || ihl < 5 || p->ip_len < ihl * 4 || p->ip_len + ETH_HLEN > p->frame)
		return DROP_MALFORMED;
	p->l4 = p->l2 + ETH_HLEN + ihl * 4;
	p->key.proto = ip->protocol;
	offset = bpf_ntohs(ip->frag_off);
	if (offset & IP4_MORE_OR_OFFSET)
		p->fragment = offset & IP4_OFFSET ? FRAGMENT_LATER : FRAGMENT_FIRST;
	p->datagram = bpf_ntohs(ip->id);
	if (p->fragment != FRAGMENT_LATER && (why = parse_transport(ctx, p, ip->protocol, p->ip_len - ihl * 4, &sport, &dport)))
		return why == PACKET_PASS ? DROP_UNSUPPORTED : why;
	key_set4(p, ip->saddr, ip->daddr, sport, dport);
	return p->quoted ? parse_quoted(ctx, p) : 0;
}

static __always_inline int node_key6(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct ipv6hdr *ip = data + packet_l2(p) + ETH_HLEN;
	__be16 sport = 0, dport = 0;
	__u32 next;
	int why = 0;

	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	p->ip_len = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || p->ip_len + ETH_HLEN > p->frame)
		return DROP_MALFORMED;
	p->v6 = 1;
	p->l4 = p->l2 + ETH_HLEN + sizeof(*ip);
	next = ip->nexthdr;
	if (next != IPPROTO_TCP && next != IPPROTO_UDP && next != IPPROTO_ICMPV6)
		next = parse_extensions(ctx, p, next);
	if (p->odd)
		return p->odd;
	if (p->fragment != FRAGMENT_LATER)
		why = parse_transport(ctx, p, next, p->ip_len + p->l2 + ETH_HLEN - p->l4, &sport, &dport);
	if (why)
		return why == PACKET_PASS ? DROP_UNSUPPORTED : why;
	data = packet_data(ctx), end = packet_data_end(ctx);
	ip = data + packet_l2(p) + ETH_HLEN;
	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	p->key.proto = next;
	key_set6(p, &ip->saddr, &ip->daddr, sport, dport);
	return p->quoted ? parse_quoted(ctx, p) : 0;
}

/* The key of the packet whose Ethernet header is at p->l2, with p->v6 and lengths. */
RARE int node_key(struct xdp_md *ctx, struct packet *p, __u32 ip6)
{
	int why;

	if (!p)
		return DROP_MALFORMED;
	why = ip6 ? node_key6(ctx, p) : node_key4(ctx, p);
	if (!why && p->fragment == FRAGMENT_LATER)
		key_name(p, NODE_SCOPE_FRAGMENT, p->v6 ? 0 : p->key.proto, bpf_htons(p->datagram >> 16), bpf_htons(p->datagram & 0xffff));
	return why;
}

#endif
