/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a pair of elements has for a packet: leaves by protocol, port of entry and ports, and the best rule of them. */
#ifndef DETOUR_RULES_LEAF_H
#define DETOUR_RULES_LEAF_H

#include "rules-around.h"

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

#endif
