/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much one source address may ask for: a token bucket for each address and purpose. Read and written without a lock: two CPUs may let
 * one more through.
 */
#ifndef DETOUR_SOURCE_BUCKET_H
#define DETOUR_SOURCE_BUCKET_H

#include "maps.h"
#include "packet.h"

#define BUCKET_NS_MAX 10000000000ull /* longest refill, so that the product stays within 64 bits */

/* Takes a token from the bucket that this source has for this purpose; rate and burst are tokens, per second and at once. */
static __always_inline int source_allowed(const struct packet *p, enum source_purpose purpose, __u32 rate, __u32 burst)
{
	struct source_key key = { .vrf = p->key.vrf, .purpose = purpose };
	__u64 now = bpf_ktime_get_ns(), full = (__u64)burst * 1000, passed;
	struct punt_bucket *b, fresh;

	__builtin_memcpy(key.addr, packet_src(p), sizeof(key.addr));
	b = bpf_map_lookup_elem(&sources, &key);
	if (!b) {
		if (full < 1000)
			return 0;
		fresh.at_ns = now;
		fresh.tokens = full - 1000;
		bpf_map_update_elem(&sources, &key, &fresh, BPF_ANY);
		return 1;
	}
	passed = now - b->at_ns;
	if (passed > BUCKET_NS_MAX)
		passed = BUCKET_NS_MAX;
	passed = passed / 1000 * rate / 1000; /* thousandths of a token */
	if (passed) {
		b->at_ns = now;
		b->tokens = b->tokens + passed > full ? full : b->tokens + passed;
	}
	if (b->tokens < 1000)
		return 0;
	b->tokens -= 1000;
	return 1;
}

#endif
