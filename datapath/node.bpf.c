/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The program on a service node (`detour node attach`): between a gateway's tunnel and a pair of interfaces that the node filters between.
 *
 *	underlay ── ours? gateway? header, options ── inner packet → key → record what came in front ── decapsulated ── side 0 or 1
 *	side 0, 1, link ── inner packet → key → record ── what came in front, ends swapped ── underlay
 *
 * A flow's first packet says who began it (our option does where there is one, a SYN-ACK too); what the initiator sends comes out of side 0, which
 * the node must bring to side 1; replies the other way. What comes back by the side that it came out of has not crossed the node (`service_loop`).
 * A packet of no flow that came in is dropped (`strict_return`). A direction that has not come yet (a reset that the node itself sends) is returned
 * with what came with the other one. A side may be a router's arm, by a device that is the machine's too (lib/node-arm.h). All between the inner addresses of node and gateway (BFD) is one flow, with a device of its own: the link.
 *
 * Races that are allowed: two CPUs write one record at once. What they write is the same but for lengths and checksums, which are filled in anew.
 */
#include "lib/node-maps.h"
#include "lib/node-outer.h"
#include "lib/node-arm.h"
#include "lib/node-key.h"
#include "lib/node-back.h"
#include "lib/ecn.h"

enum node_const { BFD_PORT = 3784, GTSM_TTL = 255, ARP_LENGTH = 28, TCP_SYN = 2, TCP_ACK = 16 };

/* ARP for the inner address (RFC 826): the gateway must know a MAC before it can send. Answered at once, by the way it came. */
RARE int node_arp(struct xdp_md *ctx, struct node_outer *o, const struct node_settings *s, const struct node_gateway *g)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u8 target[16] = {}, *eth, *arp;
	__be32 asked, from;

	if (!o || !s || !g)
		return DROP_UNSUPPORTED;
	eth = data + (o->at & 0x1ff);
	arp = eth + ETH_HLEN;
	if ((void *)(arp + ARP_LENGTH) > end)
		return DROP_MALFORMED;
	if (*(__be16 *)arp != bpf_htons(1) || *(__be16 *)(arp + 2) != bpf_htons(ETH_P_IP) || *(__be16 *)(arp + 4) != bpf_htons(0x0604) ||
	    *(__be16 *)(arp + 6) != bpf_htons(1))
		return DROP_UNSUPPORTED;
	__builtin_memcpy(&from, arp + 14, 4);
	__builtin_memcpy(&asked, arp + 24, 4);
	key_put4(target, asked);
	if (!addr_same(target, g->node))
		return DROP_UNSUPPORTED;
	__builtin_memcpy(eth, arp + 8, 6);
	__builtin_memcpy(eth + 6, s->to_mac, 6);
	__builtin_memcpy(arp + 18, arp + 8, 6);
	__builtin_memcpy(arp + 24, &from, 4);
	*(__be16 *)(arp + 6) = bpf_htons(2);
	__builtin_memcpy(arp + 8, s->to_mac, 6);
	__builtin_memcpy(arp + 14, &asked, 4);
	return node_turn(ctx, o->ip6, s->proto == TUNNEL_VXLAN || s->proto == TUNNEL_GENEVE, 0);
}

/* The record of the packet's key; made when there is none. */
static __noinline struct node_flow *node_flow_of(const struct packet *p, __u32 make)
{
	struct node_flow *f, *blank;
	struct flow_key key;
	__u32 zero = 0;

	if (!p)
		return NULL;
	key = p->key;
	f = bpf_map_lookup_elem(&node_flows, &key);
	if (f || !make)
		return f;
	blank = bpf_map_lookup_elem(&node_blank, &zero);
	if (!blank)
		return NULL;
	bpf_map_update_elem(&node_flows, &key, blank, BPF_NOEXIST);
	f = bpf_map_lookup_elem(&node_flows, &key);
	if (f)
		f->fwd_b = 2; /* nobody knows yet */
	return f;
}

/* Direction of a packet that came from the gateway, and with it who is the initiator. */
static __always_inline __u32 node_direction(const struct packet *p, struct node_flow *f)
{
	__u32 dir;

	if (p->told & TUNNEL_PATH)
		dir = p->told & TUNNEL_PATH_REVERSE ? 1 : 0;
	else if (!p->quoted && p->key.proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		dir = 0;
	else if (f->fwd_b < 2)
		return (p->norm ^ f->fwd_b) & 1;
	else
		dir = p->quoted || (p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
	f->fwd_b = (p->norm ^ dir) & 1;
	return dir;
}

/* Keeps what came in front of the inner packet; returns the direction, or 2. */
RARE __u32 node_keep(struct xdp_md *ctx, const struct packet *p, const struct node_outer *o, __u32 known)
{
	struct node_back *back;
	struct node_flow *f;
	__u32 dir, len;

	if (!p || !o)
		return 2;
	f = node_flow_of(p, 1);
	if (!f)
		return 2;
	if (known < 2) {
		dir = known;
		f->fwd_b = (p->norm ^ dir) & 1;
	} else {
		dir = node_direction(p, f);
	}
	back = &f->way[dir & 1];
	len = p->l2 + ETH_HLEN;
	if (len > NODE_MAX_HEADER)
		return 2;
	asm volatile("" : "+r"(len));
	if (len < ETH_HLEN)
		return 2;
	if (bpf_xdp_load_bytes(ctx, 0, back->header, len))
		return 2;
	back->number = o->number;
	back->ip6 = o->ip6;
	back->len = len;
	return dir;
}

/* The inner packet, with p->l2, to the node; counted. */
static __always_inline int node_deliver(struct xdp_md *ctx, struct packet *p, struct node_outer *o, const struct node_settings *s,
					const struct node_gateway *g)
{
	struct node_gateway_counters *c = node_counters_row(o->number);
	__u32 dir = 2, link = 0, echo, head;
	void *data, *end;
	__be16 type;
	int why;

	if ((why = node_key(ctx, p, p->v6)))
		return why;
	if (p->ip_len > s->mtu)
		return DROP_TOO_BIG;
	if (p->l2 + ETH_HLEN > NODE_MAX_HEADER)
		return DROP_ADJUST; /* options that could not be given back */
	echo = !p->quoted && addr_same(p->key.a, p->key.b);
	if (!p->quoted && s->link && !addr_none(g->node) && addr_same(packet_dst(p), g->node) && addr_same(packet_src(p), g->peer)) {
		link = 1;
		data = packet_data(ctx), end = packet_data_end(ctx);
		data += packet_l2(p) + ETH_HLEN;
		if (data + sizeof(struct ipv6hdr) > end && data + sizeof(struct iphdr) > end)
			return DROP_MALFORMED;
		/* RFC 5881 5: a control packet has come over one link. The ports are those of the key, in either order. */
		if (p->key.proto == IPPROTO_UDP && (p->norm ? p->key.aport_be : p->key.bport_be) == bpf_htons(BFD_PORT) &&
		    ((__u8 *)data)[p->v6 ? 7 : 8] != GTSM_TTL)
			return DROP_TTL;
		key_name(p, NODE_SCOPE_LINK, 0, 0, 0);
		dir = 0;
	}
	/* The head is kept before anything in the frame is changed. */
	if (p->fragment == FRAGMENT_LATER && !node_flow_of(p, 0))
		return DROP_FRAGMENT; /* gateways send the first one first */
	dir = node_keep(ctx, p, o, dir);
	if (dir > 1)
		return DROP_NO_TABLE;
	if (p->fragment == FRAGMENT_FIRST) {
		key_name(p, NODE_SCOPE_FRAGMENT, p->v6 ? 0 : p->key.proto, bpf_htons(p->datagram >> 16), bpf_htons(p->datagram & 0xffff));
		node_keep(ctx, p, o, dir);
	}
	if (p->outer_ecn & ECN_TOLD && (why = ecn_combine(ctx, p)))
		return why;
	head = p->l2;
	if (head && bpf_xdp_adjust_head(ctx, head))
		return DROP_ADJUST;
	data = packet_data(ctx), end = packet_data_end(ctx);
	if (data + ETH_HLEN > end)
		return DROP_ADJUST;
	type = p->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	__builtin_memcpy(data, dir ? s->to_mac + 6 : s->to_mac, 6);
	__builtin_memcpy(data + 6, dir ? s->from_mac + 6 : s->from_mac, 6);
	__builtin_memcpy(data + 12, &type, 2);
	if (c) {
		c->in_packets++;
		c->in_bytes += p->ip_len;
		c->echo_in += echo;
		c->link_in += link;
	}
	p->out = link ? s->link : dir ? s->inner[1] : s->inner[0];
	return PACKET_FORWARD;
}

static __always_inline int node_take(struct xdp_md *ctx, struct packet *p, struct node_outer *o, const struct node_settings *s,
				     const struct node_gateway *g)
{
	void *data, *end;
	__be16 type;
	int why;

	if (s->proto == TUNNEL_GRE || s->proto == TUNNEL_GRE_PLAIN)
		why = node_gre_read(ctx, p, o, s);
	else
		why = node_udp_read(ctx, p, o, s);
	if (why)
		return why;
	if (s->inner_l3) {
		p->l2 = (o->at - ETH_HLEN) & 0x1ff;
	} else {
		p->l2 = o->at & 0x1ff;
		data = packet_data(ctx), end = packet_data_end(ctx);
		data += packet_l2(p);
		if (data + ETH_HLEN > end)
			return DROP_MALFORMED;
		type = ethertype_of(data);
		if (type == bpf_htons(ETH_P_ARP)) {
			if ((why = node_arp(ctx, o, s, g)))
				return why;
			return PACKET_PUNT;
		}
		if (type != bpf_htons(ETH_P_IP) && type != bpf_htons(ETH_P_IPV6))
			return DROP_UNSUPPORTED;
		p->v6 = type == bpf_htons(ETH_P_IPV6);
	}
	p->frame = packet_data_end(ctx) - packet_data(ctx);
	if (p->frame < p->l2)
		return DROP_MALFORMED;
	p->frame -= p->l2;
	return node_deliver(ctx, p, o, s, g);
}

static __always_inline void node_strange(const __u8 *src)
{
	__u32 zero = 0;
	struct node_stranger *row = bpf_map_lookup_elem(&node_strangers, &zero);

	if (!row)
		return;
	__builtin_memcpy(row->src, src, sizeof(row->src));
	row->packets++;
	row->last_ns = bpf_ktime_get_ns();
}

SEC("xdp")
int detour_node_underlay(struct xdp_md *ctx)
{
	struct node_settings *s = node_settings_row();
	struct node_gateway_counters *c;
	struct node_outer o = {};
	struct packet p = {};
	struct node_gateway *g;
	__u8 key[16];
	int end;

	if (!s || !s->proto)
		return XDP_PASS;
	end = node_outer_read(ctx, &p, &o, s);
	if (end == PACKET_PASS)
		return XDP_PASS;
	__builtin_memcpy(key, o.src, sizeof(key));
	g = bpf_map_lookup_elem(&node_gateways, key);
	if (!g) {
		node_strange(o.src);
		return XDP_PASS;
	}
	o.number = g->number;
	c = node_counters_row(o.number);
	if (c)
		c->last_ns = bpf_ktime_get_ns();
	if (!end)
		end = node_take(ctx, &p, &o, s, g);
	if (end == PACKET_FORWARD)
		return bpf_redirect(p.out, 0);
	if (end == PACKET_PUNT) { /* an answer, to whoever asked */
		if (c)
			c->arp++;
		return XDP_TX;
	}
	if (c)
		c->dropped++;
	return node_drop(end);
}

/* What the node sends out of a side: back to the gateway from which its flow came. */
static __always_inline int node_return(struct xdp_md *ctx, struct packet *p, const struct node_settings *s, __u32 side)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct node_gateway_counters *c;
	struct node_back *back;
	struct node_flow *f;
	__u32 dir, echo, link = side > 1, ecn;
	__be16 type;
	__u8 *ip;
	int why;

	if (data + ETH_HLEN + sizeof(struct iphdr) > end)
		return DROP_MALFORMED;
	type = ethertype_of(data);
	if (type != bpf_htons(ETH_P_IP) && type != bpf_htons(ETH_P_IPV6))
		return DROP_UNSUPPORTED;
	p->frame = end - data;
	ip = data + ETH_HLEN;
	ecn = (type == bpf_htons(ETH_P_IPV6) ? ip[1] >> 4 : ip[1]) & ECN_MASK;
	if ((why = node_key(ctx, p, type == bpf_htons(ETH_P_IPV6))))
		return why;
	if (p->ip_len > s->mtu)
		return DROP_TOO_BIG;
	echo = !p->quoted && addr_same(p->key.a, p->key.b);
	if (p->fragment == FRAGMENT_FIRST)
		key_name(p, NODE_SCOPE_FRAGMENT, p->v6 ? 0 : p->key.proto, bpf_htons(p->datagram >> 16), bpf_htons(p->datagram & 0xffff));
	if (link)
		key_name(p, NODE_SCOPE_LINK, 0, 0, 0);
	f = node_flow_of(p, 0);
	if (!f)
		return DROP_STRICT_RETURN;
	dir = (p->norm ^ f->fwd_b) & 1;
	if (!link && dir == side)
		return DROP_SERVICE_LOOP;
	back = &f->way[dir];
	if (!back->len)
		back = &f->way[dir ^ 1];
	if (!back->len)
		return DROP_STRICT_RETURN;
	c = node_counters_row(back->number);
	if ((why = node_back_put(ctx, back, s, ecn)))
		return why;
	if (c) {
		c->back_packets++;
		c->back_bytes += p->ip_len;
		c->echo_back += echo;
		c->link_back += link;
	}
	return PACKET_FORWARD;
}

SEC("xdp")
int detour_node_pair(struct xdp_md *ctx)
{
	struct node_settings *s = node_settings_row();
	struct packet p = {};
	__u32 side = 0;
	int end;

	if (!s)
		return XDP_PASS;
	if (ctx->ingress_ifindex == s->inner[1])
		side = 1;
	else if (s->link && ctx->ingress_ifindex == s->link)
		side = 2;
	else if (ctx->ingress_ifindex != s->inner[0])
		return XDP_PASS;
	if (s->arms && side < 2 && node_arm_local(ctx, s, side))
		return XDP_PASS;
	end = node_return(ctx, &p, s, side);
	if (end == PACKET_FORWARD)
		return bpf_redirect(s->underlay, 0);
	return node_drop(end);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
