/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which rule decides a packet (abi-rules.h): elements around its addresses, then every pair of them, then the leaves that the packet meets. Each step is a
 * function that is verified by itself, and keeps what it knows in rules_looks, not on the stack.
 */
#ifndef DETOUR_RULES_H
#define DETOUR_RULES_H

#include "rules-leaf.h"
#include "count.h"

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
