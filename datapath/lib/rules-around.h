/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Lines of the rule table (abi-rules.h), and the elements around an address: one look for each length of prefix that the VRF has. */
#ifndef DETOUR_RULES_AROUND_H
#define DETOUR_RULES_AROUND_H

#include "maps.h"
#include "packet.h"

static __always_inline const struct rules_line *rules_line(const struct rules_look *s, __u32 line)
{
	__u32 row = s->base + line;

	return line < s->lines ? bpf_map_lookup_elem(&rules, &row) : NULL;
}

static __always_inline __u32 rules_mix(__u32 hash, __u32 word)
{
	hash = (hash ^ word) * 0x9e3779b1;
	return hash ^ hash >> 15;
}

/* Line of a table at which the search for a key begins. */
static __always_inline __u32 rules_home(const struct rules_look *s, __u32 table, __u32 hash)
{
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	hash ^= hash >> 16;
	return s->head[table] + (__u32)((__u64)hash * s->head[table + 1] >> 32);
}

/* The word above says: bits of an address that a prefix of this length leaves. */
static __always_inline __u32 rules_bits(__u32 word, int bits)
{
	if (bits <= 0)
		return 0;
	return bits >= 32 ? word : word & ~0u << (32 - bits);
}

/* 0 source, 1 destination. The mask is for the verifier, which forgets what a comparison said of a number that clang puts away. */
static __always_inline struct rules_end *rules_end(struct rules_look *s, __u32 side)
{
	asm volatile("%0 &= 1" : "+r"(side));
	return &s->end[side];
}

static __always_inline int rules_add(struct rules_end *end, __u32 element)
{
	__u32 at = end->count;

	if (at >= RULES_AROUND)
		return RULES_TOO_MANY;
	asm volatile("%0 &= 15" : "+r"(at));
	end->around[at] = element;
	end->count = at + 1;
	return 0;
}
_Static_assert(RULES_AROUND == 16, "the mask above");

/* A prefix is there: its element, or the list of its elements. */
static __always_inline int rules_value(struct rules_look *s, __u32 side, __u32 value)
{
	const struct rules_line *list;
	struct rules_end *end = rules_end(s, side);
	__u32 i;
	int why;

	if (!(value & RULES_VALUE_LIST))
		return rules_add(end, value);
	list = rules_line(s, value & ~RULES_VALUE_LIST);
	if (!list)
		return RULES_BROKEN;
	if (list->word[RULES_LIST_NEXT])
		return RULES_TOO_MANY;
	for (i = 0; i < RULES_LIST_ELEMENTS; i++) {
		if (i >= list->word[RULES_LIST_COUNT])
			break;
		if ((why = rules_add(end, list->word[RULES_LIST_AT + i])))
			return why;
	}
	return 0;
}

static __always_inline __u32 rules_place(const struct rules_look *s, __u32 side, __u32 length)
{
	return s->vrf << RULES_PLACE_VRF_SHIFT | length << RULES_PLACE_LENGTH_SHIFT | side;
}

/* The IPv4 prefix of this length around an address, if a rule has it. */
RARE int rules_prefix4(struct rules_look *s, __u32 side, __u32 length)
{
	__u32 address, place, at, i, e, value = 0;

	if (!s)
		return RULES_BROKEN;
	address = rules_bits(rules_end(s, side)->address[3], length);
	place = rules_place(s, side, length);
	at = rules_home(s, RULES_PREFIX4_AT, rules_mix(rules_mix(0, address), place));
	for (i = 0; i < RULES_PROBES; i++) {
		const struct rules_line *line = rules_line(s, at + i);

		if (!line)
			return RULES_BROKEN;
		for (e = 0; e < RULES_PREFIX4_ENTRIES; e++) {
			const __u32 *entry = line->word + 1 + e * RULES_PREFIX4_WORDS;

			if (entry[0] == address && entry[1] == place && entry[2])
				value = entry[2];
		}
		if (value || !line->word[0])
			break;
	}
	return value ? rules_value(s, side, value) : 0;
}

RARE int rules_prefix6(struct rules_look *s, __u32 side, __u32 length)
{
	__u32 a0, a1, a2, a3, place, at, i, e, hash, value = 0;
	const struct rules_end *end;

	if (!s)
		return RULES_BROKEN;
	end = rules_end(s, side);
	a0 = rules_bits(end->address[0], length);
	a1 = rules_bits(end->address[1], (int)length - 32);
	a2 = rules_bits(end->address[2], (int)length - 64);
	a3 = rules_bits(end->address[3], (int)length - 96);
	place = rules_place(s, side, length);
	hash = rules_mix(rules_mix(rules_mix(rules_mix(rules_mix(0, a0), a1), a2), a3), place);
	at = rules_home(s, RULES_PREFIX6_AT, hash);
	for (i = 0; i < RULES_PROBES; i++) {
		const struct rules_line *line = rules_line(s, at + i);

		if (!line)
			return RULES_BROKEN;
		for (e = 0; e < RULES_PREFIX6_ENTRIES; e++) {
			const __u32 *entry = line->word + 1 + e * RULES_PREFIX6_WORDS;

			if (entry[4] == place && entry[0] == a0 && entry[1] == a1 && entry[2] == a2 && entry[3] == a3 && entry[5])
				value = entry[5];
		}
		if (value || !line->word[0])
			break;
	}
	return value ? rules_value(s, side, value) : 0;
}

/* All elements around one address. */
RARE int rules_around(struct rules_look *s, __u32 side)
{
	__u32 first, count = 0, v4, i;
	struct rules_end *end;
	int why;

	if (!s)
		return RULES_BROKEN;
	end = rules_end(s, side);
	end->count = 1;
	end->around[0] = s->vrf;
	v4 = end->v4;
	first = s->lengths + (v4 ? side : RULES_LENGTHS6 + side * RULES_LENGTHS6_LINES);
	for (i = 0; i <= RULES_LENGTHS_MAX; i++) {
		const struct rules_line *line = rules_line(s, first + i / 64);
		__u32 byte;

		if (!line)
			return RULES_BROKEN;
		byte = ((const __u8 *)line)[i % 64];
		if (!i) {
			count = byte;
			continue;
		}
		if (i > count)
			break;
		why = v4 ? rules_prefix4(s, side, byte) : rules_prefix6(s, side, byte);
		if (why)
			return why;
	}
	return 0;
}

#endif
