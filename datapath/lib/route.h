/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The last step: out of the VRF by its own Linux routing table, as the kernel would forward it.
 *
 * The answer of the table is kept in the flow record per direction and holds while control.route_gen does not move. A reader takes a
 * copy and looks at the generation again, so that it never sends with half of another CPU's answer. The TTL goes down here and nowhere
 * else: once for a whole trip, however many nodes lie on it (they count for themselves where they route).
 */
#ifndef DETOUR_ROUTE_H
#define DETOUR_ROUTE_H

#include "maps.h"
#include "packet.h"
#include "count.h"
#include "punt.h"
#include "encap.h"
#include "front.h"
#include "vlan.h"
#include "snat.h"

/*
 * Set before loading. 1: the kernel reads a table by its id, whatever the rules say (6.6, and 6.1 in Debian's newer builds). 0: it goes by
 * its rules, and the table is that of the rule which names the device packet.table (`ip rule … iif DEVICE lookup TABLE`, made by tunnel-gw
 * before the row is published). No packet ever enters by that device; it stands for its table, however the packet came in.
 */
const volatile __u32 fib_by_table = 1;

/* Named here because older headers lack FIB_TBID. */
enum fib_flag { FIB_RULES = 0, FIB_DIRECT = 1 << 0, FIB_TBID = 1 << 3 };
enum fib_family { FIB_IP4 = 2 /* AF_INET */, FIB_IP6 = 10 /* AF_INET6 */ };

/* A tunnel of IP packets has one other end and no MAC addresses inside. */
static __always_inline int vti_is_l3(__u32 bank, const __u32 *number)
{
	struct hop *hop = number ? hop_row(bank, *number) : NULL;

	return hop && hop->inner_l3;
}

/* Asks the routing table; 0 with *out, or why the packet ends here. */
RARE int route_resolve(struct xdp_md *ctx, struct packet *p, const struct control *c, struct flow *f, struct nexthop *out)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct bpf_fib_lookup fib = {};
	struct egress_key key;
	__u32 gen, *row, flags = FIB_RULES;
	void *l3;
	long rc;

	if (!p || !c || !out)
		return DROP_NO_TABLE;
	gen = ACCESS_ONCE(c->route_gen);
	l3 = data + packet_l2(p) + ETH_HLEN;
	key.bank = p->bank;
	count_stat(STAT_FIB_LOOKUP);
	fib.ifindex = ACCESS_ONCE(ctx->ingress_ifindex); /* a load of its own: the verifier takes no choice of addresses */
	fib.l4_protocol = p->key.proto;
	if (p->v6) {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return DROP_MALFORMED;
		fib.family = FIB_IP6;
		fib.flowinfo = *(__be32 *)ip & bpf_htonl(0x0fffffff);
		__builtin_memcpy(fib.ipv6_src, &ip->saddr, 16);
		__builtin_memcpy(fib.ipv6_dst, &ip->daddr, 16);
	} else {
		struct iphdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return DROP_MALFORMED;
		fib.family = FIB_IP4;
		fib.tos = ip->tos;
		fib.ipv4_src = ip->saddr;
		fib.ipv4_dst = ip->daddr;
	}
	if (fib_by_table) {
		flags = FIB_DIRECT | FIB_TBID;
		__builtin_memcpy(&fib.h_vlan_proto, &p->table, sizeof(p->table)); /* tbid shares this place */
	} else {
		fib.ifindex = p->table;
	}
	rc = bpf_fib_lookup(ctx, &fib, sizeof(fib), flags);
	if (rc != BPF_FIB_LKUP_RET_SUCCESS && rc != BPF_FIB_LKUP_RET_NO_NEIGH)
		return DROP_NO_ROUTE;
	__builtin_memset(out, 0, sizeof(*out));
	out->ifindex = key.ifindex = fib.ifindex;
	row = bpf_map_lookup_elem(&egress, &key);
	if (rc == BPF_FIB_LKUP_RET_NO_NEIGH && !vti_is_l3(p->bank, row))
		return punt_neighbour(ctx, p, c, &fib);
	__builtin_memcpy(out->dmac, fib.dmac, 6);
	__builtin_memcpy(out->smac, fib.smac, 6);
	out->mtu = fib.tot_len; /* mtu_result shares this place */
	if (row)
		out->hop = *row;
	if (f && gen) {
		struct nexthop *kept = &f->out[p->dir & 1];

		ACCESS_ONCE(kept->gen) = 0;
		barrier();
		kept->ifindex = out->ifindex;
		__builtin_memcpy(kept->dmac, out->dmac, 12);
		kept->mtu = out->mtu;
		kept->hop = out->hop;
		barrier();
		ACCESS_ONCE(kept->gen) = gen;
	}
	return 0;
}

static __always_inline int ttl_decrement(struct xdp_md *ctx, struct packet *p)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	void *l3 = data + packet_l2(p) + ETH_HLEN;

	if (p->v6) {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return DROP_MALFORMED;
		if (ip->hop_limit <= 1)
			return DROP_TTL;
		ip->hop_limit--;
	} else {
		struct iphdr *ip = l3;
		__u32 check;

		if ((void *)(ip + 1) > end)
			return DROP_MALFORMED;
		if (ip->ttl <= 1)
			return DROP_TTL;
		check = ip->check;
		check += bpf_htons(0x0100); /* RFC 1624 */
		ip->check = check + (check >= 0xffff);
		ip->ttl--;
	}
	return 0;
}

static __always_inline int ttl_ended(const struct packet *p, int why)
{
	return why == DROP_TTL && p->tunnelled ? PACKET_PASS : why;
}

/* The way out is a VTI: behind its header, the frame goes to the neighbour that the routing table named. */
static __always_inline int vti_leave(struct xdp_md *ctx, struct packet *p, struct nexthop *to, __u16 entropy)
{
	struct hop *hop = hop_row(p->bank, to->hop);
	int end;

	if (hop && hop->mtu && p->frame - ETH_HLEN > hop->mtu) {
		p->fits = hop->mtu;
		return DROP_TOO_BIG;
	}
	if ((end = ttl_decrement(ctx, p)))
		return ttl_ended(p, end);
	end = hop_send(ctx, p, to->hop, entropy);
	if (end == PACKET_FRAME)
		return vlan_leave(ctx, p, to);
	if (end != PACKET_FORWARD || !hop || hop->inner_l3 || hop->header_len < ETH_HLEN)
		return end;
	return bpf_xdp_store_bytes(ctx, hop->header_len - ETH_HLEN, to->dmac, 6) ? DROP_ADJUST : end;
}

/* f may be NULL: then the way is p->way, or the routing table is asked. */
static __always_inline int leave(struct xdp_md *ctx, struct packet *p, const struct control *c, struct flow *f)
{
	struct nexthop to = {};
	void *data, *end;
	__u16 *mac;
	int why;

	if (f) {
		nexthop_read(&f->out[p->dir & 1], c->route_gen, &to);
	} else if (p->way) {
		struct way *way = bpf_map_lookup_elem(&ways, &p->way);

		if (way)
			nexthop_read(&way->to, c->route_gen, &to);
	}
	if (!to.gen && (why = route_resolve(ctx, p, c, f, &to)))
		return why;
	if (to.mtu && p->frame - ETH_HLEN > to.mtu) {
		p->fits = to.mtu;
		return DROP_TOO_BIG;
	}
	if (to.hop & EGRESS_SNAT && (why = snat_out(ctx, p, c, &to)))
		return ttl_ended(p, why);
	if (to.hop)
		return vti_leave(ctx, p, &to, p->entropy ? p->entropy : ENTROPY_BASE);
	if ((why = ttl_decrement(ctx, p)))
		return ttl_ended(p, why);
	if (p->l2 && bpf_xdp_adjust_head(ctx, p->l2))
		return DROP_ADJUST;
	data = packet_data(ctx), end = packet_data_end(ctx);
	if (data + ETH_HLEN > end)
		return DROP_ADJUST;
	mac = data;
	__builtin_memcpy(mac, to.dmac, 12);
	p->out = to.ifindex;
	return PACKET_FORWARD;
}

#endif
