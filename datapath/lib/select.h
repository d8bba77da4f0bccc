/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which path a flow gets: a keyed hash of its affinity fields, the slot of its chain's selection table.
 *
 * HalfSipHash-1-3 (32-bit words, 64-bit key, 32-bit result) over ten little-endian words: a, b, {aport_be, bport_be}, {vrf, proto}. The
 * key is direction-normalised, so both directions and every gateway with the same table get the same answer. Its twin is
 * packages/core/src/selection-hash.ts; vectors/selection-hash.json binds the two.
 */
#ifndef DETOUR_SELECT_H
#define DETOUR_SELECT_H

#include "maps.h"
#include "packet.h"

enum select_limit {
	SELECT_WORDS = 10,
	SELECT_PROBES = 16, /* slots looked at while the table still names a path that is down */
};

#define ROTL(x, bits) ((x) << (bits) | (x) >> (32 - (bits)))
#define SIP_ROUND                                                                                                                  \
	do {                                                                                                                       \
		v0 += v1; v1 = ROTL(v1, 5); v1 ^= v0; v0 = ROTL(v0, 16);                                                           \
		v2 += v3; v3 = ROTL(v3, 8); v3 ^= v2;                                                                              \
		v0 += v3; v3 = ROTL(v3, 7); v3 ^= v0;                                                                              \
		v2 += v1; v1 = ROTL(v1, 13); v1 ^= v2; v2 = ROTL(v2, 16);                                                          \
	} while (0)

static __always_inline __u32 select_hash(const struct flow_key *key, __u64 secret, __u32 affinity, __u32 initiator_is_b)
{
	__u32 k0 = secret, k1 = secret >> 32, i;
	__u32 v0 = k0, v1 = k1, v2 = k0 ^ 0x6c796765, v3 = k1 ^ 0x74656462;
	const __u32 *a = (const __u32 *)key->a, *b = (const __u32 *)key->b;
	__u32 w[SELECT_WORDS] = {};

	if (affinity == AFFINITY_SOURCE) {
		const __u32 *s = initiator_is_b ? b : a;

		w[0] = s[0], w[1] = s[1], w[2] = s[2], w[3] = s[3];
	} else {
		w[0] = a[0], w[1] = a[1], w[2] = a[2], w[3] = a[3];
		w[4] = b[0], w[5] = b[1], w[6] = b[2], w[7] = b[3];
		if (affinity == AFFINITY_5_TUPLE)
			w[8] = key->aport_be | (__u32)key->bport_be << 16;
	}
	w[9] = key->vrf;
	if (affinity == AFFINITY_5_TUPLE || affinity == AFFINITY_3_TUPLE)
		w[9] |= (__u32)key->proto << 16;
#pragma unroll
	for (i = 0; i < SELECT_WORDS; i++) {
		v3 ^= w[i];
		SIP_ROUND;
		v0 ^= w[i];
	}
	v3 ^= (SELECT_WORDS * 4) << 24;
	SIP_ROUND;
	v0 ^= (SELECT_WORDS * 4) << 24;
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	return v1 ^ v3;
}

/*
 * An up path of the chain for this flow, or 0. The table names up paths alone, but between a path's going down and the table that
 * follows it the next slots are tried, so that no packet waits for the table.
 */
RARE __u32 select_path(const struct flow_key *key, __u64 secret, __u32 bank, __u32 chain_number, __u32 initiator_is_b)
{
	struct chain *chain = chain_row(bank, chain_number);
	struct selection *table = selection_row(bank, chain_number);
	__u32 slots, slot, i;

	if (!key || !chain || !table)
		return 0;
	slots = chain->nslots;
	if (!chain->valid || !slots || slots > DT_MAX_SLOTS)
		return 0;
	slot = select_hash(key, secret, chain->affinity, initiator_is_b) % slots;
	for (i = 0; i < SELECT_PROBES; i++) {
		struct path *path;
		__u32 number;

		if (slot >= slots)
			slot = 0;
		if (slot >= DT_MAX_SLOTS)
			return 0;
		number = table->path[slot];
		path = path_row(bank, number);
		if (path && path->state == PATH_UP && path->chain == chain_number)
			return number;
		slot++;
	}
	return 0;
}

#endif
