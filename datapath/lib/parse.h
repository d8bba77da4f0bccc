/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a frame to a flow key: what must be right in a packet that is steered, and what is the local stack's in any case.
 *
 * Checked: IPv4 version, header length, total length, header checksum (RFC 1812 5.2.2); IPv6 version and payload length (RFC 8200 3);
 * that the transport header is there as far as it is read. Left to end points: transport checksums and lengths.
 * The local stack's: ARP, multicast and limited broadcast, IPv6 link-local, ND and MLD, frames to a foreign MAC (the stack ignores those).
 * A packet whose TTL ends here goes to the stack as well: its forward path answers with time exceeded and cannot forward it.
 * Marked odd, for the local stack or dropped: IPv6 extension headers beyond hop-by-hop, destination options, routing and fragment. What
 * fragments do is in fragment.h.
 * ICMP errors get the key of the flow that they quote, in the direction against the quoted packet's (RFC 5508 and conntrack do so).
 */
#ifndef DETOUR_PARSE_H
#define DETOUR_PARSE_H

#include "packet.h"
#include "count.h"
#include "csum.h"
#include "fragment.h"
#include "quoted.h"
#include "transport.h"

enum parse_limit {
	ND_HOP_LIMIT = 255, /* RFC 4861 7.1 */
};

RARE __u32 csum_options(struct xdp_md *ctx, __u32 l3, __u32 ihl)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct iphdr *ip = data + (l3 & 0x1ff);
	__u64 sum;
	__u32 i;

	if ((void *)(ip + 1) > end)
		return 0;
	sum = csum_words(ip);
	for (i = 5; i < 15; i++) {
		__u32 *word = (__u32 *)ip + i;

		if (i >= ihl)
			break;
		if ((void *)(word + 1) > end)
			return 0;
		sum += *word;
	}
	return csum_fold(sum);
}

/* A packet of which there is more, or that begins in the middle of its datagram. */
RARE int parse_fragment4(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct datagram_key datagram = {};
	__be16 sport = 0, dport = 0;
	struct iphdr *ip;
	int why;

	if (!p)
		return DROP_MALFORMED;
	ip = data + packet_l2(p) + ETH_HLEN;
	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	key_put4(datagram.src, ip->saddr);
	key_put4(datagram.dst, ip->daddr);
	datagram.id = p->datagram = bpf_ntohs(ip->id);
	datagram.vrf = p->key.vrf;
	datagram.proto = ip->protocol;
	if (ip->frag_off & bpf_htons(IP4_OFFSET)) {
		if (ip->protocol == IPPROTO_TCP && (ip->frag_off & bpf_htons(IP4_OFFSET)) == bpf_htons(1))
			return DROP_MALFORMED; /* RFC 3128: would rewrite TCP's flags */
		p->fragment = FRAGMENT_LATER;
		key_set4(p, ip->saddr, ip->daddr, 0, 0);
		return fragment_later(p, &datagram);
	}
	p->fragment = FRAGMENT_FIRST;
	if ((why = parse_transport(ctx, p, ip->protocol, p->ip_len - ip->ihl * 4, &sport, &dport)))
		return why;
	key_set4(p, ip->saddr, ip->daddr, sport, dport);
	if (p->quoted && (why = parse_quoted(ctx, p)))
		return why;
	return fragment_first(p, &datagram);
}

static __always_inline int ttl_expired(const struct packet *p, __u8 ttl)
{
	if (ttl > 1 || p->node || (p->asked & PACKET_SNAT && !p->v6)) /* where its flow ends must be known first: snat.h looks */
		return 0;
	count_stat(STAT_TTL_EXPIRED);
	return PACKET_PASS;
}

static __always_inline int parse_ip4(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct iphdr *ip = data + packet_l2(p) + ETH_HLEN;
	__be16 sport = 0, dport = 0;
	__u32 ihl, first;
	int why;

	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	ihl = ip->ihl;
	p->ip_len = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || ihl < 5 || p->ip_len < ihl * 4 || p->ip_len + ETH_HLEN > p->frame)
		return DROP_MALFORMED;
	if ((ihl == 5 ? csum_fold(csum_words(ip)) : csum_options(ctx, p->l2 + ETH_HLEN, ihl)) != 0xffff)
		return DROP_MALFORMED;
	first = bpf_ntohl(ip->daddr) >> 28;
	if (first == 14 || ip->daddr == 0xffffffff)
		return PACKET_PASS;
	if ((why = ttl_expired(p, ip->ttl)))
		return why;
	p->key.proto = ip->protocol;
	p->l4 = p->l2 + ETH_HLEN + ihl * 4;
	if (ip->frag_off & bpf_htons(IP4_MORE_OR_OFFSET))
		return parse_fragment4(ctx, p);
	if ((why = parse_transport(ctx, p, ip->protocol, p->ip_len - ihl * 4, &sport, &dport)))
		return why;
	key_set4(p, ip->saddr, ip->daddr, sport, dport);
	return p->quoted ? parse_quoted(ctx, p) : 0;
}

/* An IPv6 packet whose first header is none of the usual ones: extension headers, fragments, other transports. */
RARE int parse_extended6(struct xdp_md *ctx, struct packet *p, __u32 next)
{
	void *data, *end;
	struct datagram_key datagram = {};
	__be16 sport = 0, dport = 0;
	struct ipv6hdr *ip;
	int why = 0;

	if (!p)
		return DROP_MALFORMED;
	next = parse_extensions(ctx, p, next);
	if (p->odd == DROP_MALFORMED)
		return DROP_MALFORMED;
	if (!p->odd && p->fragment != FRAGMENT_LATER)
		why = parse_transport(ctx, p, next, p->ip_len + p->l2 + ETH_HLEN - p->l4, &sport, &dport);
	data = packet_data(ctx), end = packet_data_end(ctx);
	ip = data + packet_l2(p) + ETH_HLEN;
	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	if (why)
		return why == PACKET_PASS && ip->hop_limit != ND_HOP_LIMIT ? DROP_MALFORMED : why;
	p->key.proto = next;
	key_set6(p, &ip->saddr, &ip->daddr, sport, dport);
	if (p->quoted && (why = parse_quoted(ctx, p)))
		return why;
	if (p->odd || !p->fragment)
		return 0;
	data = packet_data(ctx), end = packet_data_end(ctx);
	ip = data + packet_l2(p) + ETH_HLEN;
	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	key_put6(datagram.src, &ip->saddr);
	key_put6(datagram.dst, &ip->daddr);
	datagram.id = p->datagram;
	datagram.vrf = p->key.vrf;
	return p->fragment == FRAGMENT_LATER ? fragment_later(p, &datagram) : fragment_first(p, &datagram);
}

static __always_inline int parse_ip6(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct ipv6hdr *ip = data + packet_l2(p) + ETH_HLEN;
	__be16 sport = 0, dport = 0;
	__u32 next;
	int why;

	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	p->ip_len = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || p->ip_len + ETH_HLEN > p->frame)
		return DROP_MALFORMED;
	p->v6 = 1;
	if (ip->daddr.in6_u.u6_addr8[0] == 0xff || (ip->daddr.in6_u.u6_addr16[0] & bpf_htons(0xffc0)) == bpf_htons(0xfe80))
		return PACKET_PASS;
	if ((why = ttl_expired(p, ip->hop_limit)))
		return why;
	p->l4 = p->l2 + ETH_HLEN + sizeof(*ip);
	next = ip->nexthdr;
	if (next != IPPROTO_TCP && next != IPPROTO_UDP && next != IPPROTO_ICMPV6)
		return parse_extended6(ctx, p, next);
	if ((why = parse_transport(ctx, p, next, p->ip_len + p->l2 + ETH_HLEN - p->l4, &sport, &dport)))
		return why == PACKET_PASS && ip->hop_limit != ND_HOP_LIMIT ? DROP_MALFORMED : why;
	p->key.proto = next;
	key_set6(p, &ip->saddr, &ip->daddr, sport, dport);
	return p->quoted ? parse_quoted(ctx, p) : 0;
}

/* A frame to another machine's address is none of ours to route: a switch floods, a bridge's members see all. */
static __always_inline int parse_mac(const struct port *row, const void *dmac)
{
	const __u8 *mine;

	if (!row)
		return 0;
	mine = row->mac;
	if (*(__u32 *)mine == *(__u32 *)dmac && *(__u16 *)(mine + 4) == *(__u16 *)(dmac + 4))
		return 0;
	return *(__u32 *)mine || *(__u16 *)(mine + 4) ? PACKET_PASS : 0;
}

/* row: the port whose device it came in by, if that is where it counts; NULL behind a tunnel or inject header */
static __always_inline int packet_parse(struct xdp_md *ctx, struct packet *p, const struct port *row)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct ethhdr *eth = data + packet_l2(p);
	int why;

	if ((void *)(eth + 1) > end)
		return DROP_MALFORMED;
	switch (ethertype_of(eth)) {
	case bpf_htons(ETH_P_IP):
		why = parse_mac(row, eth);
		return why ? why : parse_ip4(ctx, p);
	case bpf_htons(ETH_P_IPV6):
		why = parse_mac(row, eth);
		return why ? why : parse_ip6(ctx, p);
	case bpf_htons(ETH_P_ARP):
		return PACKET_PASS;
	default:
		return p->tunnelled ? PACKET_PASS : DROP_UNSUPPORTED;
	}
}

#endif
