/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Behind the IP header: ports, ICMP, and IPv6's extension headers on the way there. */
#ifndef DETOUR_TRANSPORT_H
#define DETOUR_TRANSPORT_H

#include "packet.h"
#include "quoted.h"

enum transport_limit {
	IP6_EXTENSIONS = 4, /* headers walked */
	IP6_EXTENSION_BYTES = 256,
	IP4_MORE_OR_OFFSET = 0x3fff,
	IP4_OFFSET = 0x1fff,
	IP6_OFFSET = 0xfff8,
	IP6_MORE = 1,
};

/* Ports at p->l4, as the key has them; bytes is what the IP header leaves for the transport. */
static __always_inline int parse_transport(struct xdp_md *ctx, struct packet *p, __u32 proto, __s32 bytes, __be16 *sport, __be16 *dport)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u8 *l4 = data + (p->l4 & 0x3ff);

	if (proto == IPPROTO_TCP) {
		if (bytes < 20 || (void *)(l4 + 20) > end)
			return DROP_MALFORMED;
		p->tcp_flags = l4[13];
		*sport = *(__be16 *)l4;
		*dport = *(__be16 *)(l4 + 2);
	} else if (proto == IPPROTO_UDP) {
		if (bytes < 8 || (void *)(l4 + 8) > end)
			return DROP_MALFORMED;
		*sport = *(__be16 *)l4;
		*dport = *(__be16 *)(l4 + 2);
	} else if (proto == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		__u8 type;

		if (bytes < 8 || (void *)(l4 + 8) > end)
			return DROP_MALFORMED;
		type = l4[0];
		if (p->v6 ? type == ICMP6_ECHO || type == ICMP6_ECHO_REPLY : type == ICMP4_ECHO || type == ICMP4_ECHO_REPLY)
			*sport = *dport = *(__be16 *)(l4 + 4);
		else if (p->v6 ? type >= 1 && type <= ICMP6_ERROR_LAST
			       : type == ICMP4_UNREACHABLE || type == ICMP4_QUENCH || type == ICMP4_EXCEEDED || type == ICMP4_PARAMETER)
			p->quoted = 1;
		else if (p->v6 && ((type >= ICMP6_MLD_FIRST && type <= ICMP6_ND_LAST) || type == ICMP6_MLD2))
			return PACKET_PASS;
	}
	return 0;
}

/* Walks extension headers from p->l4 on; the upper layer's number, with p->l4 at its header, or p->odd set. */
RARE int parse_extensions(struct xdp_md *ctx, struct packet *p, __u32 next)
{
	__u32 at, start, i;

	if (!p)
		return next;
	at = start = p->l4;
	for (i = 0; i <= IP6_EXTENSIONS; i++) {
		void *data = packet_data(ctx), *end = packet_data_end(ctx);
		__u8 *header = data + (at & 0x3ff);

		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			break;
		case IPPROTO_FRAGMENT:
			if (p->fragment) {
				p->odd = DROP_UNSUPPORTED;
				return next;
			}
			if ((void *)(header + 8) > end) {
				p->odd = DROP_MALFORMED;
				return next;
			}
			p->datagram = bpf_ntohl(*(__be32 *)(header + 4));
			if (*(__be16 *)(header + 2) & bpf_htons(IP6_OFFSET)) {
				p->fragment = FRAGMENT_LATER;
				return header[0];
			}
			if (header[3] & IP6_MORE) /* neither: an atomic fragment, a packet like any other (RFC 6946) */
				p->fragment = FRAGMENT_FIRST;
			if (i == IP6_EXTENSIONS || at - start > IP6_EXTENSION_BYTES)
				break;
			next = header[0];
			at += 8;
			continue;
		case IPPROTO_AH:
		case IPPROTO_NONE:
		case IPPROTO_MH:
			p->odd = DROP_UNSUPPORTED;
			return next;
		default:
			p->l4 = at;
			return next;
		}
		if (i == IP6_EXTENSIONS || at - start > IP6_EXTENSION_BYTES)
			break;
		if ((void *)(header + 8) > end) {
			p->odd = DROP_MALFORMED;
			return next;
		}
		next = header[0];
		at += (header[1] + 1) * 8;
		if (at - start > IP6_EXTENSION_BYTES)
			break;
	}
	p->odd = DROP_UNSUPPORTED;
	return next;
}

#endif
