/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Source NAT of what leaves by a port that has it (RFC 3022, RFC 4787, RFC 5382, RFC 5508; IPv4).
 *
 * Only the last leg is translated: a packet gets its flow's binding where it leaves, behind every node, and what comes back gets the inner
 * end point before its flow is looked for. In between all is as without: nodes, records, front rows and counters know inner end points.
 * A binding is made by tunnel-gw, for the first packet that needs it; the packet waits there. It belongs to the flow and its port: by
 * another port with SNAT it is made anew. What answers flows that began outside has none, and leaves as it is.
 *
 * Checksums are updated by the difference alone (RFC 1624), so that one which was wrong stays wrong; a UDP checksum of 0 stays 0. An ICMP error
 * quotes what its receiver has sent: the quoted end point is translated with the error's own, and the error's source too, unless it is the
 * gateway's own message. Of a later fragment the address alone is there to be translated.
 * A packet to a SNAT address whose TTL ends here is dropped: the kernel would take it for its own, or name the inner end point.
 */
#ifndef DETOUR_SNAT_H
#define DETOUR_SNAT_H

#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "punt.h"

#define SNAT_SEEN_NS 1000000000ull /* how exact last_ns is */

enum snat_const { SNAT_UDPLITE = 136, SNAT_DCCP = 33, SNAT_QUOTE = 8 /* bytes of ICMP header in front of a quoted packet */ };

/* The last four bytes: the address itself, of IPv4. */
static __always_inline __be32 snat_addr4(const __u8 *addr)
{
	return ((const __u32 *)addr)[3];
}

static __always_inline __u32 snat_changed16(__u16 old, __u16 new)
{
	return (__u16)~old + (__u32)new;
}

static __always_inline __u32 snat_changed32(__u32 old, __u32 new)
{
	return snat_changed16(old, new) + snat_changed16(old >> 16, new >> 16);
}

static __always_inline __u16 snat_check(__u16 check, __u32 changed)
{
	return ~csum_fold((__u64)(__u16)~check + changed);
}

/*
 * Another port, or identifier, at l4 + at; `changed`: by how much the address did. By how much the header's words did, its checksum
 * included: what a checksum over all of it must follow. A quoted header may end before its checksum.
 */
static __always_inline __u32 snat_transport(__u8 *l4, void *end, __u32 proto, __u32 changed, __be16 port, __u32 at)
{
	__u16 *word, *check, old, new;
	__u32 own;

	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP && proto != IPPROTO_ICMP)
		return 0;
	if ((void *)(l4 + 8) > end)
		return 0;
	if (proto == IPPROTO_ICMP) {
		if (!port)
			return 0;
		word = (__u16 *)(l4 + 4);
		check = (__u16 *)(l4 + 2);
		changed = 0; /* no pseudo-header */
	} else {
		word = (__u16 *)(at ? l4 + 2 : l4);
		check = (__u16 *)(l4 + 6);
	}
	own = snat_changed16(*word, port);
	*word = port;
	if (proto == IPPROTO_TCP) {
		check = (__u16 *)(l4 + 16);
		if ((void *)(check + 1) > end)
			return own;
	}
	old = *check;
	if (proto == IPPROTO_UDP && !old)
		return own;
	new = snat_check(old, changed + own);
	if (proto == IPPROTO_UDP && !new)
		new = 0xffff;
	*check = new;
	return own + snat_changed16(old, new);
}

/* In the packet that an ICMP error quotes, the other end point: its destination where the error's source is meant, and the other way round. */
RARE int snat_quoted(struct xdp_md *ctx, const struct packet *p, __be32 addr, __be16 port, __u32 to_dst)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 changed, old;
	struct iphdr *ip;
	__u8 *icmp;

	if (!p)
		return DROP_MALFORMED;
	icmp = data + (p->l4 & 0x3ff);
	ip = (struct iphdr *)(icmp + SNAT_QUOTE);
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return 0;
	old = to_dst ? ip->saddr : ip->daddr;
	if (old != snat_addr4(to_dst ? packet_dst(p) : packet_src(p)))
		return 0; /* nothing usable quoted: the key is the error's own */
	if (to_dst)
		ip->saddr = addr;
	else
		ip->daddr = addr;
	changed = snat_changed32(old, addr);
	ip->check = snat_check(ip->check, changed); /* with it the quoted header's words sum to what they did */
	changed = snat_transport((void *)ip + ip->ihl * 4, end, ip->protocol, changed, port, !to_dst);
	*(__u16 *)(icmp + 2) = snat_check(*(__u16 *)(icmp + 2), changed);
	return 0;
}

/* Puts addr and port in the place of the packet's source, or of its destination. */
RARE int snat_put(struct xdp_md *ctx, const struct packet *p, __be32 addr, __be16 port, __u32 to_dst)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 changed, old;
	struct iphdr *ip;

	if (!p)
		return DROP_MALFORMED;
	ip = data + packet_l2(p) + ETH_HLEN;
	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	if (!p->leaves || p->of_flow) {
		old = to_dst ? ip->daddr : ip->saddr;
		if (to_dst)
			ip->daddr = addr;
		else
			ip->saddr = addr;
		changed = snat_changed32(old, addr);
		ip->check = snat_check(ip->check, changed);
		if (!p->quoted && p->fragment != FRAGMENT_LATER)
			snat_transport(data + (p->l4 & 0x3ff), end, ip->protocol, changed, port, to_dst);
	}
	return p->quoted && p->fragment != FRAGMENT_LATER ? snat_quoted(ctx, p, addr, port, to_dst) : 0;
}

/* What came by a port with SNAT: to the inner end point, if it is for a binding. p->key is the flow's inside from then on. */
RARE int snat_in(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct snat_inner *inner = NULL;
	struct snat_key key = {};
	__be16 sport, port;
	struct iphdr *ip;
	__be32 addr;
	__u8 ttl;
	int why;

	if (!p || p->v6)
		return 0;
	ip = data + packet_l2(p) + ETH_HLEN;
	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	ttl = ip->ttl;
	sport = p->norm ? p->key.bport_be : p->key.aport_be;
	key.addr_be = snat_addr4(packet_dst(p));
	key.remote_be = snat_addr4(packet_src(p));
	key.port_be = p->norm ? p->key.aport_be : p->key.bport_be;
	key.remote_port_be = p->key.proto == IPPROTO_ICMP ? 0 : sport;
	key.vrf = p->key.vrf;
	key.proto = p->key.proto;
	if (!p->odd && !p->leaves)
		inner = bpf_map_lookup_elem(&snat_inners, &key);
	if (!inner) {
		if (ttl > 1)
			return 0;
		count_stat(STAT_TTL_EXPIRED);
		return PACKET_PASS;
	}
	if (ttl <= 1)
		return DROP_TTL;
	addr = inner->addr_be;
	port = inner->port_be;
	if ((why = snat_put(ctx, p, addr, port, 1)))
		return why;
	key_set4(p, key.remote_be, addr, key.proto == IPPROTO_ICMP ? port : sport, port);
	return 0;
}

/* A later fragment to a SNAT address, whose first alone says whose it is. */
static __always_inline int snat_awaits_first(const struct packet *p, __u32 own)
{
	return own & OWN_SNAT && p->asked & PACKET_SNAT && p->odd == DROP_FRAGMENT && !p->injected;
}

/* Its flow has no binding with this port: the packet waits while tunnel-gw makes one. */
RARE int snat_hold(struct xdp_md *ctx, struct packet *p, const struct control *c, __u32 port)
{
	struct scratch *s = scratch_here();

	if (!s || !p || !c || !punt_allowed(p, c, PUNT_SNAT))
		return DROP_PUNT_FULL;
	event_fill(&s->event, p, EVENT_PUNT_SNAT);
	s->event.old_path = port;
	return punt_send(ctx, p, s);
}

/* A binding that no flow has here may be that of another gateway's flow: tunnel-gw asks, and holds the packet. One that it has put back is not asked about again. */
RARE int snat_ask(struct xdp_md *ctx, struct packet *p, const struct control *c)
{
	struct scratch *s = scratch_here();

	if (!s || !p || !c || p->injected || !punt_allowed(p, c, PUNT_SNAT))
		return DROP_SNAT_UNKNOWN;
	event_fill(&s->event, p, EVENT_SNAT_UNKNOWN);
	return punt_send(ctx, p, s);
}

/* It is about to leave by a port with SNAT, nothing else being in its way but its TTL. 0 with the plain way out in *to. */
RARE int snat_out(struct xdp_md *ctx, struct packet *p, const struct control *c, struct nexthop *to)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct snat_binding *b;
	struct flow_key key;
	struct iphdr *ip;
	struct hop *hop;
	__u32 port;
	__u64 now;

	if (!p || !c || !to)
		return DROP_NO_TABLE;
	port = to->hop & EGRESS_PORT;
	to->hop = to->hop & EGRESS_HOP ? to->hop & ~EGRESS_SNAT : 0;
	if (p->v6)
		return 0;
	key = p->key;
	key.scope = 0;
	b = bpf_map_lookup_elem(&snat_bindings, &key);
	if (b && b->inner_is_b != p->norm)
		return 0;
	if (!b && (p->quoted || p->dir || (p->leaves && !p->of_flow)))
		return 0;
	ip = data + packet_l2(p) + ETH_HLEN;
	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	if (ip->ttl <= 1)
		return DROP_TTL;
	if (key.proto == SNAT_UDPLITE || key.proto == SNAT_DCCP)
		return DROP_UNSUPPORTED; /* their checksums cover addresses */
	if (!b || (b->out_port != port && !p->quoted))
		return snat_hold(ctx, p, c, port);
	hop = hop_row(p->bank, to->hop);
	if (hop && hop->mtu && p->frame - ETH_HLEN > hop->mtu) {
		p->fits = hop->mtu;
		return DROP_TOO_BIG;
	}
	now = bpf_ktime_get_coarse_ns();
	if (now - b->last_ns > SNAT_SEEN_NS)
		b->last_ns = now;
	return snat_put(ctx, p, b->addr_be, b->port_be, 0);
}

#endif
