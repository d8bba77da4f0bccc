/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which flow a packet belongs to, and its direction.
 *
 * Established flows are in a preallocated hash, those that have seen one side only in an LRU hash, where a flood of them can push out
 * nothing but each other. The first packet of the reply direction promotes the record; its counters have rows of their own and stay.
 * Several CPUs may promote at once: one insert wins, all go on with the winner. If the table is full the embryo stays in use, counted.
 *
 * A forward packet that enters by another port than the record's is decided on its own (scope), replies may enter by any port.
 */
#ifndef DETOUR_FLOW_H
#define DETOUR_FLOW_H

#include "maps.h"
#include "count.h"
#include "parse.h"
#include "front.h"
#include "opening.h"

/* 1: the record is in flows now. */
RARE int embryo_promote(const struct flow_key *of)
{
	struct flow_key key;
	struct flow *e;
	long rc;

	if (!of)
		return 0;
	key = *of; /* kernels before 6.2 take a key from the stack only */
	e = bpf_map_lookup_elem(&embryos, &key);
	if (!e)
		return 0;
	rc = bpf_map_update_elem(&flows, &key, e, BPF_NOEXIST);
	if (!bpf_map_lookup_elem(&flows, &key)) {
		count_stat(STAT_PROMOTE_FULL);
		return 0;
	}
	bpf_map_delete_elem(&embryos, &key);
	if (!rc)
		count_stat(STAT_PROMOTED);
	return 1;
}

/* A packet of the reply direction, as it enters, of a flow that is let through. */
static __always_inline int embryo_ripe(const struct packet *p, __u64 word)
{
	__u32 action = word_action(word);

	return (action == FLOW_ALLOW || action == FLOW_STEER) && !p->quoted && !p->node && p->norm != word_initiator(word);
}

static __always_inline struct flow *flow_get(struct packet *p)
{
	struct flow *f = bpf_map_lookup_elem(&flows, &p->key);

	if (f)
		return f;
	f = bpf_map_lookup_elem(&embryos, &p->key);
	if (f && !f->slot && !p->node && !p->quoted)
		flow_counted(p, f);
	if (f && f->slot && embryo_ripe(p, ACCESS_ONCE(f->word)) && embryo_promote(&p->key))
		f = bpf_map_lookup_elem(&flows, &p->key);
	return f;
}

static __noinline struct flow *flow_scoped(struct packet *p, struct flow *own)
{
	struct flow *f;

	p->key.scope = p->port;
	f = flow_get(p);
	if (f && word_action(ACCESS_ONCE(f->word)) == FLOW_STEER && own->alt_scope != p->port)
		own->alt_scope = p->port;
	return f;
}

/* For a packet that a node returned, which says nothing of its port: the record that was steered under another scope. */
static __noinline struct flow *flow_alternative(struct packet *p, struct flow *own)
{
	struct flow *f;

	if (!own->alt_scope)
		return NULL;
	p->key.scope = own->alt_scope;
	f = flow_get(p);
	if (f)
		p->dir = p->norm ^ word_initiator(ACCESS_ONCE(f->word));
	return f;
}

static __always_inline void flow_facts(struct packet *p, const struct flow *f)
{
	p->slot = f->slot;
	p->rule = f->rule;
	p->chain = f->chain;
	p->entropy = f->entropy;
}

/* NULL: no decision is known; p->key is what it would be recorded under. */
static __always_inline struct flow *flow_find(struct xdp_md *ctx, struct packet *p)
{
	struct flow *f = flow_get(p);

	if (!f && p->quoted && !parse_unquoted(ctx, p))
		f = flow_get(p);
	if (!f)
		return NULL;
	p->dir = p->norm ^ word_initiator(ACCESS_ONCE(f->word));
	if (!p->dir && !p->node && !f->fwd_port)
		f->fwd_port = p->port; /* its reply was seen first: the forward side's port shows now */
	if (!p->dir && !p->node && f->fwd_port != p->port) {
		f = flow_scoped(p, f);
		if (!f)
			return NULL;
		p->dir = p->norm ^ word_initiator(ACCESS_ONCE(f->word));
	}
	flow_facts(p, f);
	return f;
}

#define ANSWER_NS 250000000ull /* a SYN that comes again later than this is one whose sender waited for the answer (RFC 6298 2.1: for a second) */

/*
 * 1: the flow was decided here by a SYN, which comes again though nothing else was seen of the flow. Where there are several gateways the
 * answer may have come to another one, which knew no record and chose the path by its own tables; so Redis is asked. Not while tunnel-gw
 * has more to read than half of its ring: then the record counts.
 */
static __always_inline int flow_unanswered(const struct packet *p, const struct flow_key *key)
{
	struct chain *chain = chain_row(p->bank, p->chain);
	struct flow *f;

	if (p->injected || !chain || !chain->valid || chain->decides != DECIDES_OPENING)
		return 0;
	f = bpf_map_lookup_elem(&embryos, key);
	return f && !f->slot && word_action(f->word) == FLOW_STEER && bpf_ktime_get_ns() - f->created_ns > ANSWER_NS &&
	       bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 2;
}

/*
 * 1: the record of p->key says nothing of this SYN, and is gone. Its connection had ended, by RST or by FIN from both sides, and the ports
 * are used again: its counter row is free with the next sweep. Or the SYN is one that was not answered, and is asked about.
 */
RARE int flow_ended(struct packet *p, const struct control *c)
{
	const __u32 both = SEEN_FIN_FWD | SEEN_FIN_REV;
	struct flow_counters *n;
	struct flow_key key;
	__u32 slot;

	if (!p || !c)
		return 0;
	slot = p->slot; /* from the stack, as the key is */
	key = p->key;
	if (slot) {
		n = bpf_map_lookup_elem(&flow_counters, &slot);
		if (!n || !(n->seen & SEEN_RST || (n->seen & both) == both))
			return 0;
		bpf_map_delete_elem(&flows, &key);
	} else if (flow_unanswered(p, &key)) {
		p->asked |= FLOW_AGAIN;
	} else {
		return 0;
	}
	bpf_map_delete_elem(&embryos, &key);
	front_forget(p, c);
	return 1;
}

#endif
