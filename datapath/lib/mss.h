/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The largest segment that a TCP SYN offers (RFC 9293 3.7.1), lowered to what the chain's tunnels take, where the chain asks for it.
 *
 * A SYN limits what the other side sends, which passes the path in the other direction: so the smallest hop of both directions counts.
 * Only ever lowered, never below MSS_LEAST, and a SYN without the option stays without (its default fits any tunnel). The checksum is
 * updated by the difference alone (RFC 1624), so that one which was wrong stays wrong.
 */
#ifndef DETOUR_MSS_H
#define DETOUR_MSS_H

#include "maps.h"
#include "packet.h"
#include "parse.h"

enum mss_limit {
	MSS_LEAST = 536, /* RFC 9293 3.7.1: what everybody must take */
	TCP_HEADER = 20,
	TCP_CHECK = 16,
	TCP_OPTIONS_MAX = 40,
	TCP_OPTION_END = 0,
	TCP_OPTION_NOP = 1,
	TCP_OPTION_MSS = 2,
};

/* What the smallest hop of a path leaves for TCP's payload; 0: nothing is known. */
RARE __u32 mss_of_path(__u32 bank, __u32 number, __u32 headers)
{
	struct path *path = path_row(bank, number);
	__u32 least = 0, i;

	if (!path)
		return 0;
	for (i = 0; i < 2 * DT_MAX_PATH_HOPS; i++) {
		struct hop *hop;

		if (!path->hop[i])
			continue;
		hop = hop_row(bank, path->hop[i]);
		if (hop && hop->mtu && (!least || hop->mtu < least))
			least = hop->mtu;
	}
	return least > headers + MSS_LEAST ? least - headers : least ? MSS_LEAST : 0;
}

struct tcp_options { __u8 byte[64]; };

/* Where the option behind this one begins; 0: nowhere. On its own, so that a loop over options is verified step by step, not in all its ways. */
RARE __u32 option_next(const struct tcp_options *options, __u32 at)
{
	__u32 len;

	if (!options || options->byte[at & 63] == TCP_OPTION_END)
		return 0;
	if (options->byte[at & 63] == TCP_OPTION_NOP)
		return at + 1;
	len = options->byte[(at + 1) & 63];
	return len < 2 ? 0 : at + len;
}

/* p: a SYN that is about to be sent along p->path. */
RARE int mss_clamp(struct xdp_md *ctx, const struct packet *p, __u32 setting)
{
	struct scratch *s = scratch_here();
	struct tcp_options *options; /* there, not on the stack, of which little is left here */
	__u8 value[2];
	__u32 l4, bytes, at, i, old, limit;
	__be16 check;
	__u8 offset;

	if (!p || !setting || !s)
		return 0;
	options = (struct tcp_options *)s->packet;
	l4 = p->l4;
	limit = setting == MSS_AUTO ? mss_of_path(p->bank, p->path, p->v6 ? 60 : 40) : setting;
	if (!limit || bpf_xdp_load_bytes(ctx, l4 + 12, &offset, 1))
		return 0;
	bytes = (offset >> 4) * 4 - TCP_HEADER;
	if (bytes > TCP_OPTIONS_MAX)
		return 0;
	asm volatile("" : "+r"(bytes)); /* two comparisons, not one of a difference: kernel 6.1 follows these */
	if (bytes < 4 || bpf_xdp_load_bytes(ctx, l4 + TCP_HEADER, options->byte, bytes))
		return 0;
	for (at = 0, i = 0; i < TCP_OPTIONS_MAX; i++) {
		if (at + 4 > bytes)
			return 0;
		if (options->byte[at & 63] == TCP_OPTION_MSS)
			break;
		at = option_next(options, at);
		if (!at)
			return 0;
	}
	if (i == TCP_OPTIONS_MAX || options->byte[(at + 1) & 63] != 4)
		return 0;
	old = (__u32)options->byte[(at + 2) & 63] << 8 | options->byte[(at + 3) & 63];
	if (old <= limit || bpf_xdp_load_bytes(ctx, l4 + TCP_CHECK, &check, 2))
		return 0;
	value[0] = limit >> 8;
	value[1] = limit;
	/* The option may begin at an odd byte: then its value lies in the words with its bytes exchanged. */
	if (at & 1)
		check = ~csum_fold((__u64)(__u16)~check + (__u16)~old + limit);
	else
		check = ~csum_fold((__u64)(__u16)~check + (__u16)~bpf_htons(old) + bpf_htons(limit));
	if (bpf_xdp_store_bytes(ctx, l4 + TCP_HEADER + at + 2, value, 2) || bpf_xdp_store_bytes(ctx, l4 + TCP_CHECK, &check, 2))
		return 0;
	count_stat(STAT_MSS_CLAMPED);
	return 0;
}

#endif
