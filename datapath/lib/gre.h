/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * GRE (RFC 2784, key and sequence number of RFC 2890), on its way in.
 *
 * The outer source, destination and key together name the tunnel; without a key it is another tunnel than with key 0. A checksum that is there is
 * verified over header and payload, and must be there where the tunnel says so. Sequence numbers are a state of both ends that neither keeps here:
 * a packet that has one is from an end that is set up for something else, and is dropped, as are RFC 1701's routing bits and another version.
 */
#ifndef DETOUR_GRE_H
#define DETOUR_GRE_H

#include "checksum.h"
#include "tunnel-end.h"

RARE int gre_take(struct xdp_md *ctx, struct packet *p, struct outer *o)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 l4, len = 4;
	struct tunnel *t;
	__u16 flags;
	__be16 type;
	__u8 *gre;

	if (!p || !o)
		return DROP_MALFORMED;
	l4 = o->l4 & 0x7f;
	gre = data + l4;
	if ((void *)(gre + 4) > end)
		return DROP_MALFORMED;
	flags = bpf_ntohs(*(__be16 *)gre);
	type = *(__be16 *)(gre + 2);
	if (flags & GRE_CHECKSUM)
		len += 4;
	o->key.proto = TUNNEL_GRE_PLAIN;
	if (flags & GRE_KEY) {
		__u8 *key = data + ((l4 + len) & 0x7f);

		if ((void *)(key + 4) > end)
			return DROP_MALFORMED;
		o->key.proto = TUNNEL_GRE;
		o->key.vni = bpf_ntohl(*(__be32 *)key);
		len += 4;
	}
	if (o->bytes < len)
		return DROP_MALFORMED;
	t = tunnel_row(o);
	if (!t)
		return DROP_TUNNEL_UNKNOWN;
	if ((flags & GRE_NONE_OF_OURS) || (!(flags & GRE_CHECKSUM) && (t->flags & TUNNEL_CHECKSUM)))
		return DROP_TUNNEL_HEADER;
	if ((flags & GRE_CHECKSUM) && checksum_range(ctx, l4, o->bytes, 0) != 0xffff)
		return DROP_TUNNEL_CHECKSUM;
	return inner_begin(ctx, p, t, l4 + len, type);
}

#endif
