/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which rule decides a packet (abi-rules.h): elements around its addresses, then every pair of them, then the leaves that the packet meets. Each step is a
 * function that is verified by itself, and keeps what it knows in rules_looks, not on the stack.
 */
#ifndef DETOUR_RULES_H
#define DETOUR_RULES_H

#include "maps.h"
#include "packet.h"
#include "count.h"

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

static __always_inline int rules_better(const struct rules_look *s, __u32 rank, __u32 rule)
{
	return !s->rule || rank < s->rank || (rank == s->rank && rule < s->rule);
}

static __always_inline void rules_take(struct rules_look *s, __u32 rank, __u32 rule, __u32 verdict)
{
	s->rank = rank;
	s->rule = rule;
	s->verdict = verdict;
}

/* Rules that ask for a source port as well: the first whose range holds it. */
static __always_inline int rules_list(struct rules_look *s, __u32 at)
{
	__u32 i, e;

	for (i = 0; i < RULES_CHAIN; i++) {
		const struct rules_line *line = rules_line(s, at);

		if (!line)
			return RULES_BROKEN;
		for (e = 0; e < RULES_LIST_CONDITIONS; e++) {
			const __u32 *one = line->word + RULES_LIST_AT + e * RULES_CONDITION_WORDS;

			if (e >= line->word[RULES_LIST_COUNT])
				break;
			if (!rules_better(s, one[0], one[1]))
				return 0;
			if (s->end[0].port >= one[3] >> 16 && s->end[0].port <= (one[3] & 0xffff)) {
				rules_take(s, one[0], one[1], one[2]);
				return 0;
			}
		}
		at = line->word[RULES_LIST_NEXT];
		if (!at)
			return 0;
	}
	return RULES_TOO_MANY;
}

static __always_inline int rules_range(__u32 range, __u32 port)
{
	return port >= range >> 16 && port <= (range & 0xffff);
}

/* Rules of a pair that has few: the first that holds. */
RARE int rules_short(struct rules_look *s, __u32 at)
{
	__u32 i, e;

	if (!s)
		return RULES_BROKEN;
	for (i = 0; i < RULES_SHORT_LINES; i++) {
		const struct rules_line *line = rules_line(s, at);

		if (!line)
			return RULES_BROKEN;
		for (e = 0; e < RULES_LIST_SHORTS; e++) {
			const __u32 *one = line->word + RULES_LIST_AT + e * RULES_SHORT_WORDS;

			if (e >= line->word[RULES_LIST_COUNT])
				break;
			if (!rules_better(s, one[0], one[1]))
				return 0;
			if (one[3] & RULES_MATCH_PROTO && (one[3] & 0xff) != s->proto)
				continue;
			if (one[3] & RULES_MATCH_ENTRY && s->entry == RULES_ENTRY_PORT && (one[3] >> 8 & 0xff) != s->entry_port)
				continue;
			if (one[3] & RULES_MATCH_PORTS &&
			    (!s->ports || !rules_range(one[4], s->end[1].port) || !rules_range(one[5], s->end[0].port)))
				continue;
			rules_take(s, one[0], one[1], one[2]);
			return 0;
		}
		at = line->word[RULES_LIST_NEXT];
		if (!at)
			return 0;
	}
	return RULES_TOO_MANY;
}

/* The leaf of one condition. `from` is the element of the source and the kind. */
RARE int rules_leaf(struct rules_look *s, __u32 from, __u32 to, __u32 condition)
{
	__u32 at, i, e, list = 0;

	if (!s)
		return RULES_BROKEN;
	at = rules_home(s, RULES_LEAVES_AT, rules_mix(rules_mix(rules_mix(0, from), to), condition));
	for (i = 0; i < RULES_PROBES; i++) {
		const struct rules_line *line = rules_line(s, at + i);

		if (!line)
			return RULES_BROKEN;
		for (e = 0; e < RULES_LEAF_ENTRIES; e++) {
			const __u32 *leaf = line->word + 1 + e * RULES_LEAF_WORDS;

			if (leaf[0] != from || leaf[1] != to || leaf[2] != condition || !leaf[RULES_LEAF_RULE])
				continue;
			if (!rules_better(s, leaf[RULES_LEAF_RANK], leaf[RULES_LEAF_RULE]))
				return 0;
			list = leaf[RULES_LEAF_LIST];
			if (!list)
				rules_take(s, leaf[RULES_LEAF_RANK], leaf[RULES_LEAF_RULE], leaf[RULES_LEAF_VERDICT]);
			goto found;
		}
		if (!line->word[0])
			break;
	}
found:
	return list ? rules_list(s, list) : 0;
}

/* The leaves of a pair by one port, of every length that the pair has. first: kind of length 0. */
static __always_inline int rules_port(struct rules_look *s, __u32 lengths, __u32 port, __u32 first, __u32 condition)
{
	__u32 length;
	int why;

	for (length = 16; length >= 1; length--) {
		__u32 kind = length * 6 + first;

		if (!lengths)
			break;
		if (lengths & 0x8000) {
			why = rules_leaf(s, s->from | kind << RULES_LEAF_KIND_SHIFT, s->to, condition | (port & (0xffff0000 >> length & 0xffff)));
			if (why)
				return why;
		}
		lengths = lengths << 1 & 0xffff;
	}
	return 0;
}

/* What the pair in hand has. */
RARE int rules_kinds(struct rules_look *s)
{
	__u32 i;
	int why;

	if (!s)
		return RULES_BROKEN;
	for (i = 0; i < 4; i++) {
		__u32 proto = i & 1, entry = i >> 1 ? s->entry : RULES_ENTRY_ANY;
		__u32 bit = entry * 2 + proto;
		__u32 condition = (proto ? s->proto << 24 : 0) | (i >> 1 ? s->entry_port << 16 : 0);

		if (s->kinds >> bit & 1) {
			why = rules_leaf(s, s->from | bit << RULES_LEAF_KIND_SHIFT, s->to, condition);
			if (why)
				return why;
		}
		if (!s->ports)
			continue;
		if (s->kinds >> (bit + 6) & 1) {
			why = rules_port(s, s->port_lengths & 0xffff, s->end[1].port, bit, condition);
			if (why)
				return why;
		}
		if (s->kinds >> (bit + 12) & 1) {
			why = rules_port(s, s->port_lengths >> 16, s->end[0].port, 16 * 6 + bit, condition);
			if (why)
				return why;
		}
	}
	return 0;
}

/* One pair of elements: taken in hand if rules have it and one of them could be better than the best so far. */
RARE int rules_pair(struct rules_look *s, __u32 from, __u32 to)
{
	__u32 at, i, e;

	if (!s)
		return RULES_BROKEN;
	s->kinds = 0;
	at = rules_home(s, RULES_PAIRS_AT, rules_mix(rules_mix(0, from), to));
	for (i = 0; i < RULES_PROBES; i++) {
		const struct rules_line *line = rules_line(s, at + i);

		if (!line)
			return RULES_BROKEN;
		for (e = 0; e < RULES_PAIR_ENTRIES; e++) {
			const __u32 *pair = line->word + 1 + e * RULES_PAIR_WORDS;

			if (pair[0] != from || pair[1] != to || !pair[RULES_PAIR_KINDS])
				continue;
			if (s->rule && pair[RULES_PAIR_RANK] > s->rank)
				return 0;
			s->from = from;
			s->to = to;
			s->port_lengths = pair[RULES_PAIR_LENGTHS];
			s->kinds = pair[RULES_PAIR_KINDS];
			return 0;
		}
		if (!line->word[0])
			break;
	}
	return 0;
}

/* Every pair of elements around the two addresses. */
static __always_inline int rules_pairs(struct rules_look *s)
{
	__u32 i, j;
	int why;

	for (i = 0; i < RULES_AROUND; i++) {
		if (i >= s->end[0].count)
			break;
		for (j = 0; j < RULES_AROUND; j++) {
			if (j >= s->end[1].count)
				break;
			why = rules_pair(s, s->end[0].around[i], s->end[1].around[j]);
			if (!why && s->kinds)
				why = s->kinds == RULES_PAIR_SHORT ? rules_short(s, s->port_lengths) : rules_kinds(s);
			if (why)
				return why;
		}
	}
	return 0;
}

static __always_inline void rules_address(struct rules_end *end, const __u8 *address, __be16 port)
{
	const __u32 *words = (const __u32 *)address;

	end->address[0] = bpf_ntohl(words[0]);
	end->address[1] = bpf_ntohl(words[1]);
	end->address[2] = bpf_ntohl(words[2]);
	end->address[3] = bpf_ntohl(words[3]);
	end->v4 = !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
	end->port = bpf_ntohs(port);
}

/* The half and its head, and where the VRF's lengths are; 0: no rule is in this VRF. */
RARE int rules_open(struct rules_look *s, __u32 half, __u32 lines)
{
	const struct rules_line *line;
	__u32 i;

	if (!s || !half || half > 2)
		return RULES_NO_IMAGE;
	s->base = (half - 1) * lines;
	s->lines = lines;
	s->lengths = 0;
	line = rules_line(s, 0);
	if (!line)
		return RULES_BROKEN;
	for (i = 0; i < RULES_WORDS; i++)
		s->head[i] = line->word[i];
	if (s->vrf >= s->head[RULES_VRFS])
		return 0;
	line = rules_line(s, s->head[RULES_VRFS_AT] + s->vrf / RULES_WORDS);
	if (!line)
		return RULES_BROKEN;
	s->lengths = line->word[s->vrf % RULES_WORDS];
	return 0;
}

static __always_inline int rules_search(struct rules_look *s, __u32 half, __u32 lines)
{
	int why = rules_open(s, half, lines);

	if (why || !s->lengths)
		return why;
	if ((why = rules_around(s, 0)) || (why = rules_around(s, 1)))
		return why;
	return rules_pairs(s);
}

/*
 * The rule that decides a packet without a decision, as lookupEitherWay in packages/tables asks: its own orientation (reversed 0), where appliedTo counts
 * against the port of entry; or the reply's (1), where it does not. 0: *out says; else the datapath cannot say, and user space is to be asked.
 */
RARE int rules_find(const struct packet *p, const struct control *c, __u32 reversed, struct rule_answer *out)
{
	__u32 zero = 0, b, verdict;
	struct rules_look *s;
	int why;

	if (!p || !c || !out)
		return RULES_BROKEN;
	s = bpf_map_lookup_elem(&rules_looks, &zero);
	if (!s)
		return RULES_BROKEN;
	b = (p->norm ^ reversed) & 1; /* 1: the source is end b */
	rules_address(rules_end(s, b), p->key.a, p->key.aport_be);
	rules_address(rules_end(s, !b), p->key.b, p->key.bport_be);
	s->vrf = p->key.vrf;
	s->proto = p->key.proto;
	s->ports = s->proto == IPPROTO_TCP || s->proto == IPPROTO_UDP;
	s->entry = reversed ? RULES_ENTRY_REVERSED : RULES_ENTRY_PORT;
	s->entry_port = reversed ? 0 : p->port & 0xff;
	s->rule = s->rank = s->verdict = 0;
	why = rules_search(s, c->rules_half[p->bank & 1], c->rules_lines);
	if (why)
		count_stat(STAT_RULES_ASKED);
	verdict = s->verdict;
	out->rule = s->rule;
	out->chain = verdict;
	out->action = verdict >> RULES_ACTION_SHIFT;
	out->flags = verdict >> RULES_FLAGS_SHIFT;
	return why;
}

#endif
