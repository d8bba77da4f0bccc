/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Geneve (RFC 8926) to UDP port 6081, on its way in: header, options, checksum.
 *
 * The outer source, destination and VNI together name the tunnel. Version 0 only (3.4). Options are walked whatever the C bit says; they must fill
 * their place exactly, and a critical one that is not known here, or not on this tunnel, drops the packet (3.4, 3.5). A packet with the O bit is
 * for this end alone and never forwarded: BFD to us is delivered. A UDP checksum of 0 is accepted, any other must be right (3.3).
 *
 * Known options: the flow cookie of gateway load balancers, and ours (struct geneve_path) on tunnels that carry it. Neither changes what becomes of
 * a packet; they can only fail to agree with its flow.
 */
#ifndef DETOUR_GENEVE_H
#define DETOUR_GENEVE_H

#include "checksum.h"
#include "geneve-options.h"
#include "tunnel-end.h"

RARE int geneve_take(struct xdp_md *ctx, struct packet *p, struct outer *o)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	struct udphdr *udp;
	struct tunnel *t;
	__u32 l4, options;
	__u8 *geneve;
	__be16 type;
	int why;

	if (!p || !o)
		return DROP_MALFORMED;
	l4 = o->l4 & 0x7f;
	udp = data + l4;
	geneve = (__u8 *)(udp + 1);
	if ((void *)(geneve + GENEVE_HEADER) > end || o->bytes < sizeof(*udp) + GENEVE_HEADER)
		return DROP_MALFORMED;
	o->key.proto = TUNNEL_GENEVE;
	o->key.vni = bpf_ntohl(*(__be32 *)(geneve + 4)) >> 8;
	t = tunnel_row(o);
	if (!t)
		return DROP_TUNNEL_UNKNOWN;
	if (udp->check && checksum_range(ctx, l4, o->bytes, checksum_pseudo(ctx, o->l3, o->bytes, o->ip6)) != 0xffff)
		return DROP_TUNNEL_CHECKSUM;
	options = (geneve[0] & 0x3f) * 4;
	type = *(__be16 *)(geneve + 2);
	if (geneve[0] >> 6 || o->bytes < sizeof(*udp) + GENEVE_HEADER + options)
		return DROP_TUNNEL_HEADER;
	if (geneve[1] & GENEVE_FLAG_O)
		p->odd = DROP_TUNNEL_HEADER;
	l4 += sizeof(*udp) + GENEVE_HEADER;
	if (options && (why = geneve_options(ctx, p, l4, options, t->flags)))
		return why;
	return inner_begin(ctx, p, t, l4 + options, type);
}

/* How a packet on its way to a node names its flow: another one for every slot, not to be guessed without the secret. */
static __always_inline __u32 flow_cookie(__u32 slot, const struct control *c)
{
	return slot * 0x9e3779b1 ^ (__u32)c->hash_key ^ (__u32)(c->hash_key >> 32);
}

/* What a node's tunnel asks of every packet that comes back: the option with the cookie of its flow. */
RARE int told_wrong(const struct packet *p, const struct control *c, __u32 slot)
{
	__u8 want;

	if (!p || !c)
		return DROP_COOKIE;
	want = p->asked & (TUNNEL_COOKIE | TUNNEL_PATH);
	if ((p->told & want) != want || p->cookie != (slot ? flow_cookie(slot, c) : 0)) /* as header_flow sends it */
		return DROP_COOKIE;
	return 0;
}

#endif
