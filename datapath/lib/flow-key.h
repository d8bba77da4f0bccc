/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a packet's ends to the flow's key, direction-normalised as struct flow_key says. */
#ifndef DETOUR_FLOW_KEY_H
#define DETOUR_FLOW_KEY_H

#include "packet.h"

static __always_inline void key_set4(struct packet *p, __be32 src, __be32 dst, __be16 sport, __be16 dport)
{
	__u32 s = bpf_ntohl(src), d = bpf_ntohl(dst);
	int swap = s > d || (s == d && bpf_ntohs(sport) > bpf_ntohs(dport));

	p->norm = swap;
	key_put4(p->key.a, swap ? dst : src);
	key_put4(p->key.b, swap ? src : dst);
	p->key.aport_be = swap ? dport : sport;
	p->key.bport_be = swap ? sport : dport;
}

static __always_inline void key_set6(struct packet *p, const struct in6_addr *src, const struct in6_addr *dst, __be16 sport, __be16 dport)
{
	const __u64 *s = (const __u64 *)src, *d = (const __u64 *)dst;
	int swap;

	if (s[0] != d[0])
		swap = bpf_be64_to_cpu(s[0]) > bpf_be64_to_cpu(d[0]);
	else if (s[1] != d[1])
		swap = bpf_be64_to_cpu(s[1]) > bpf_be64_to_cpu(d[1]);
	else
		swap = bpf_ntohs(sport) > bpf_ntohs(dport);
	p->norm = swap;
	key_put6(p->key.a, swap ? dst : src);
	key_put6(p->key.b, swap ? src : dst);
	p->key.aport_be = swap ? dport : sport;
	p->key.bport_be = swap ? sport : dport;
}

#endif
