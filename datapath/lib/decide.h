/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision about a flow that no record knows: its rule, its path, its record for both directions, with nobody asked.
 *
 * Here: what begins with a TCP SYN, and other protocols where the answer is the same on every gateway (enum chain_decides) or needs no path.
 * tunnel-gw's: TCP in its middle, and a SYN that was not answered here, for Redis may know its path; chains whose choice needs history; what the rule table cannot answer; a
 * share of all, so that traces show how decisions are made. A source address that begins more flows than it may is held back.
 */
#ifndef DETOUR_DECIDE_H
#define DETOUR_DECIDE_H

#include "maps.h"
#include "packet.h"
#include "flow.h"
#include "select.h"
#include "rules.h"
#include "source-bucket.h"
#include "encap.h"

enum decide_limit { ENTROPY_MASK = 0x3fff, RECORD_THERE = -17 /* EEXIST: another CPU was faster */ };

static __always_inline __u16 flow_entropy(const struct flow_key *key)
{
	const __u64 *k = (const __u64 *)key;
	__u64 mix = (k[0] ^ k[2]) * 0x9e3779b97f4a7c15ull + (k[1] ^ k[3]) * 0xc2b2ae3d27d4eb4full + k[4] * 0x165667b19e3779f9ull;

	return ENTROPY_BASE + (mix >> 48 & ENTROPY_MASK);
}

RARE int source_may_begin(const struct packet *p, const struct control *c)
{
	return p && c && source_allowed(p, SOURCE_BEGINS, c->begin_rate, c->begin_burst);
}

/*
 * Of which rules the table of p->bank is. The bank is flipped before the generation moves: where the bank is still the packet's after the
 * generation was read, that is the bank's; else the table is of the one before, and the flow is looked at again.
 */
static __always_inline __u32 rules_gen_of(const struct packet *p, const struct control *c)
{
	__u32 gen = ACCESS_ONCE(c->rules_gen);

	barrier();
	return (ACCESS_ONCE(c->bank) & 1) == p->bank ? gen : gen - 1;
}

/* What becomes of a packet that a rule decided so; 0: it needs a path. */
static __always_inline __u64 rule_word(const struct rule_answer *a)
{
	switch (a->action) {
	case RULE_CHAIN:
		return 0;
	case RULE_DROP:
		return (__u64)FLOW_DROP << WORD_ACTION_SHIFT;
	case RULE_UNRESOLVED:
		if (a->flags & RULE_DROP_UNRESOLVED)
			return (__u64)FLOW_DROP << WORD_ACTION_SHIFT | (__u64)WORD_FLAG_UNRESOLVED << WORD_FLAGS_SHIFT;
		return (__u64)FLOW_ALLOW << WORD_ACTION_SHIFT;
	default:
		return (__u64)FLOW_ALLOW << WORD_ACTION_SHIFT;
	}
}

/* The rule of a packet, or of the flow that it is a reply of; as lookupEitherWay of packages/tables. 0 with *reversed. */
static __always_inline int rule_either_way(const struct packet *p, const struct control *c, struct rule_answer *a, __u32 *reversed)
{
	int why = rules_find(p, c, 0, a);

	*reversed = 0;
	if (why || a->action != RULE_NONE || tcp_opens(p))
		return why;
	why = rules_find(p, c, 1, a);
	*reversed = a->action != RULE_NONE;
	return why;
}

/* The record in scratch is the flow's, unless another CPU was faster. A function of its own for its place on the stack. */
RARE int flow_record(const struct packet *p)
{
	struct scratch *s = scratch_here();
	struct flow_key key;
	long rc;

	if (!p || !s)
		return DROP_CONN_FULL;
	key = p->key;
	rc = bpf_map_update_elem(&embryos, &key, &s->flow, BPF_NOEXIST);
	if (!rc)
		count_stat(STAT_DECIDED);
	return rc && rc != RECORD_THERE ? DROP_CONN_FULL : 0;
}

/* 0: the flow has a record now. PACKET_ASK: tunnel-gw is to decide. Else a drop reason. */
RARE int flow_decide(struct packet *p, const struct control *c)
{
	struct scratch *s = scratch_here();
	struct rule_answer a = {};
	__u32 reversed, initiator, number = 0;
	struct chain *chain;
	struct port *port;
	__u64 word;

	if (!p || !c || !s || !c->begin_rate || (p->key.proto == IPPROTO_TCP && !tcp_opens(p)) || p->asked & FLOW_AGAIN)
		return PACKET_ASK;
	if (c->ask_share && (bpf_get_prandom_u32() & 0xffff) < c->ask_share) {
		p->asked |= FLOW_SAMPLED;
		return PACKET_ASK;
	}
	if (!source_may_begin(p, c))
		return DROP_SOURCE_LIMIT;
	port = port_row(p->bank, p->port);
	if (!port || rule_either_way(p, c, &a, &reversed))
		return PACKET_ASK;
	initiator = (p->norm ^ reversed) & 1;
	word = rule_word(&a);
	if (!word) {
		chain = chain_row(p->bank, a.chain);
		if (!chain || !chain->valid || chain->decides < (tcp_opens(p) ? DECIDES_OPENING : DECIDES_ANY))
			return PACKET_ASK;
		number = select_path(&p->key, c->hash_key, p->bank, a.chain, initiator);
		word = (__u64)FLOW_STEER << WORD_ACTION_SHIFT | (__u64)chain->gen << WORD_CHAIN_GEN_SHIFT | number;
	} else {
		a.chain = 0;
	}
	word |= (__u64)initiator << WORD_FWD_B_SHIFT;
	if (!!(port->flags & PORT_INSIDE) != reversed)
		word |= (__u64)WORD_FLAG_INSIDE << WORD_FLAGS_SHIFT;
	__builtin_memset(&s->flow, 0, sizeof(s->flow));
	s->flow.word = word;
	s->flow.created_ns = bpf_ktime_get_ns();
	s->flow.rule = a.rule;
	s->flow.rules_gen = rules_gen_of(p, c);
	s->flow.chain = a.chain;
	s->flow.fwd_port = reversed ? 0 : p->port;
	s->flow.entropy = flow_entropy(&p->key);
	s->flow.out[1].ifindex = 1;
	s->flow.out[1].mtu = p->ip_len;
	return flow_record(p);
}

/*
 * Rules changed since the flow was classified: 1 when they still say the same of it. A reply does not show the port by which its flow
 * entered, so that only a forward packet can tell.
 */
RARE int rule_holds(const struct packet *p, const struct control *c, struct flow *f)
{
	struct rule_answer a = {};
	__u64 word, now;
	__u32 gen;

	if (!p || !c || !f || p->dir || p->node || !c->begin_rate)
		return 0;
	gen = rules_gen_of(p, c);
	if (rules_find(p, c, 0, &a) || a.action == RULE_NONE)
		return 0;
	now = rule_word(&a);
	word = ACCESS_ONCE(f->word);
	if (word_programmed(word) || f->rule != a.rule)
		return 0;
	if (now ? word_action(now) != word_action(word) || (now ^ word) >> WORD_FLAGS_SHIFT & WORD_FLAG_UNRESOLVED
		: word_action(word) != FLOW_STEER || f->chain != a.chain)
		return 0;
	f->rules_gen = gen;
	return 1;
}

#endif
