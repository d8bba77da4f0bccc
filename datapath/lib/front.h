/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One cache line in front of the flow table, for established IPv4 flows: key, decision, counter row and ways out together.
 *
 * A scattered flow costs what its memory costs: the table's bucket, a chain of elements of three lines each, one behind the other. A row
 * here is found by the key alone. It decides nothing: `flows` does, and a packet that finds no good row asks there and leaves a row.
 *
 *	good	its check is right, its key is the packet's, and its epoch is now's. The epoch is the sum of control's generations, each of
 *		which only grows: a route, a rule or a record of `flows` that has changed makes every row stale
 *	used	if the word's chain generation is the chain's and its path is up: re-pinning is the record's (path.h), rows follow it
 *
 * Writers take no lock and readers check no sequence: of a row that two CPUs write at once, or that is read half written, the check is
 * wrong, and no order of loads or stores is relied upon. The check is keyed, so that no choice of flows makes a mixture pass.
 * A record that the datapath itself removes (flow_ended) stays without a row: it is removed, then its row is; who writes a row looks
 * again whether the record is there. One of the two sees the other.
 *
 * Two rows per place. When both are another flow's, one in eight tries replaces one: with more flows than rows, writing stays rare.
 */
#ifndef DETOUR_FRONT_H
#define DETOUR_FRONT_H

#include "maps.h"
#include "packet.h"

enum front_limit { FRONT_REPLACE_MASK = 7, WAY_PROBES = 4 };

static __always_inline __u32 word_path(__u64 word)
{
	return word & WORD_PATH_MASK;
}

static __always_inline __u32 word_action(__u64 word)
{
	return word >> WORD_ACTION_SHIFT & WORD_ACTION_MASK;
}

static __always_inline __u16 word_chain_gen(__u64 word)
{
	return word >> WORD_CHAIN_GEN_SHIFT;
}

static __always_inline int word_programmed(__u64 word)
{
	return word >> WORD_FLAGS_SHIFT & WORD_FLAG_PROGRAMMED;
}

/* Nodes of the word's path have, or had, its packets: what they return is its own. */
static __always_inline int word_serviced(__u64 word)
{
	return word_action(word) == FLOW_STEER || word_programmed(word);
}

static __always_inline __u8 word_initiator(__u64 word)
{
	return word >> WORD_FWD_B_SHIFT & 1;
}

static __always_inline __u32 control_epoch(const struct control *c)
{
	return ACCESS_ONCE(c->route_gen) + ACCESS_ONCE(c->rules_gen) + ACCESS_ONCE(c->flows_gen);
}

/* One word's part of a row's check; NH of UMAC (RFC 4418 5.2.2) with keys made of the secret. */
static __always_inline __u64 front_mix(__u64 word, __u64 secret, __u32 place)
{
	__u64 key = secret + (place + 1) * 0x9e3779b97f4a7c15ull;

	return (__u64)(__u32)(word + key) * (__u32)((word >> 32) + (key >> 32));
}

static __always_inline __u64 front_check(const struct flow_front *f, __u64 of_key, __u64 secret)
{
	return of_key + front_mix(f->word, secret, 2) + front_mix(f->ids, secret, 3) + front_mix(f->marks, secret, 4) +
	       front_mix(f->ways, secret, 5);
}

/* The key's words into *f, and their part of the check, which also says the place. */
static __always_inline __u64 front_key(const struct flow_key *key, struct flow_front *f, __u64 secret)
{
	f->key[0] = ((const __u32 *)key->a)[3] | (__u64)((const __u32 *)key->b)[3] << 32;
	f->key[1] = *(const __u64 *)&key->aport_be;
	return front_mix(f->key[0], secret, 0) + front_mix(f->key[1], secret, 1);
}

static __always_inline __u32 front_place(__u64 of_key, __u32 mask)
{
	return of_key * 0x9e3779b97f4a7c15ull >> 32 & mask & ~1u;
}

static __always_inline int front_is(const struct flow_front *row, const struct flow_front *wanted)
{
	return ACCESS_ONCE(row->key[0]) == wanted->key[0] && ACCESS_ONCE(row->key[1]) == wanted->key[1];
}

static __always_inline int front_able(const struct packet *p, const struct control *c)
{
	return c->front_mask && !p->v6 && !p->quoted && !p->key.scope;
}

/* 1 with a good row's content in *f, copied before it was checked. */
static __always_inline int front_find(const struct packet *p, const struct control *c, struct flow_front *f)
{
	__u64 of_key = front_key(&p->key, f, c->hash_key), check;
	__u32 place = front_place(of_key, c->front_mask);
	struct flow_front *row = bpf_map_lookup_elem(&flow_front, &place);

	if (row && !front_is(row, f)) {
		place |= 1;
		row = bpf_map_lookup_elem(&flow_front, &place);
		if (row && !front_is(row, f))
			return 0;
	}
	if (!row)
		return 0;
	f->word = ACCESS_ONCE(row->word);
	f->ids = ACCESS_ONCE(row->ids);
	f->marks = ACCESS_ONCE(row->marks);
	f->ways = ACCESS_ONCE(row->ways);
	check = ACCESS_ONCE(row->check);
	return f->ways >> 32 == p->epoch && check == front_check(f, of_key, c->hash_key);
}

/* After the record has been removed. */
RARE int front_forget(const struct packet *p, const struct control *c)
{
	struct flow_front wanted, *row;
	__u32 place, i;

	if (!p || !c || !front_able(p, c))
		return 0;
	place = front_place(front_key(&p->key, &wanted, c->hash_key), c->front_mask);
	for (i = 0; i < 2; i++, place |= 1) {
		row = bpf_map_lookup_elem(&flow_front, &place);
		if (row && front_is(row, &wanted))
			ACCESS_ONCE(row->key[1]) = 0;
	}
	return 0;
}

static __always_inline int way_same(const struct nexthop *a, const struct nexthop *b)
{
	return a->ifindex == b->ifindex && a->mtu == b->mtu && a->hop == b->hop && *(__u32 *)a->dmac == *(__u32 *)b->dmac &&
	       *(__u32 *)(a->dmac + 4) == *(__u32 *)(b->dmac + 4) && *(__u32 *)(a->smac + 2) == *(__u32 *)(b->smac + 2);
}

/* The row of a way out of generation to->gen, made if there is none; 0: no room, or somebody writes there. */
RARE __u32 way_row(const struct nexthop *to)
{
	__u32 start, i, half;

	if (!to || !to->gen)
		return 0;
	start = (to->ifindex * 31 + *(__u32 *)(to->dmac + 4) + to->hop * 17 + to->mtu) * 2654435769u >> 16;
	half = (to->gen & 1) * DT_MAX_WAYS;
	for (i = 0; i < WAY_PROBES; i++) {
		__u32 row = half + 1 + (start + i) % (DT_MAX_WAYS - 1);
		struct way *w = bpf_map_lookup_elem(&ways, &row);

		if (!w)
			return 0;
		if (ACCESS_ONCE(w->to.gen) == to->gen) {
			if (way_same(&w->to, to))
				return row;
			continue;
		}
		if (__sync_val_compare_and_swap(&w->busy, 0, 1))
			return 0;
		if (ACCESS_ONCE(w->to.gen) == to->gen) {
			__sync_lock_test_and_set(&w->busy, 0);
			return 0;
		}
		ACCESS_ONCE(w->to.gen) = 0;
		barrier();
		w->to.ifindex = to->ifindex;
		__builtin_memcpy(w->to.dmac, to->dmac, 12);
		w->to.mtu = to->mtu;
		w->to.hop = to->hop;
		barrier();
		ACCESS_ONCE(w->to.gen) = to->gen;
		__sync_lock_test_and_set(&w->busy, 0);
		return row;
	}
	return 0;
}

/* *out as it is kept in a record, if it holds in generation gen; 0 there otherwise. */
static __always_inline void nexthop_read(struct nexthop *kept, __u32 gen, struct nexthop *out)
{
	out->gen = ACCESS_ONCE(kept->gen);
	barrier();
	out->ifindex = kept->ifindex;
	__builtin_memcpy(out->dmac, kept->dmac, 12);
	out->mtu = kept->mtu;
	out->hop = kept->hop;
	barrier();
	if (ACCESS_ONCE(kept->gen) != out->gen || out->gen != gen)
		out->gen = 0;
}

static __always_inline __u32 way_of(struct nexthop *kept, __u32 gen)
{
	struct nexthop to = {};

	nexthop_read(kept, gen, &to);
	return to.gen ? way_row(&to) : 0;
}

/* Where to write: the flow's own row, a stale one, now and then another flow's. */
static __always_inline struct flow_front *front_choose(const struct flow_front *f, __u32 place, __u32 epoch)
{
	__u32 other = place | 1;
	struct flow_front *a = bpf_map_lookup_elem(&flow_front, &place), *b = bpf_map_lookup_elem(&flow_front, &other);
	__u32 dice;

	if (!a || !b)
		return NULL;
	if (front_is(a, f))
		return a;
	if (front_is(b, f))
		return b;
	if (a->ways >> 32 != epoch)
		return a;
	if (b->ways >> 32 != epoch)
		return b;
	dice = bpf_get_prandom_u32();
	if (dice & FRONT_REPLACE_MASK)
		return NULL;
	return dice >> 8 & 1 ? a : b;
}

/* Leaves a row for the flow of p->key, as its record says. */
RARE int front_put(const struct packet *p, const struct control *c)
{
	struct flow_front f, *row;
	struct flow_key key;
	__u32 action, slot;
	struct chain *chain;
	struct flow *record;
	__u64 of_key;

	if (!p || !c || !front_able(p, c))
		return 0;
	key = p->key;
	record = bpf_map_lookup_elem(&flows, &key);
	if (!record)
		return 0;
	f.word = ACCESS_ONCE(record->word);
	action = word_action(f.word);
	if (action != FLOW_ALLOW && action != FLOW_DROP && action != FLOW_STEER)
		return 0;
	chain = chain_row(p->bank, record->chain);
	if (record->rules_gen != c->rules_gen && (!chain || chain->on_rule_change == ON_RULE_CHANGE_REVALIDATE))
		return 0; /* it has not reported itself yet */
	slot = record->slot;
	of_key = front_key(&key, &f, c->hash_key);
	f.ids = slot | (__u64)record->rule << 32;
	f.marks = record->chain | (__u32)record->entropy << 16 | (__u64)record->fwd_port << 32;
	f.ways = way_of(&record->out[0], c->route_gen) | way_of(&record->out[1], c->route_gen) << 16 | (__u64)p->epoch << 32;
	f.check = front_check(&f, of_key, c->hash_key);
	row = front_choose(&f, front_place(of_key, c->front_mask), p->epoch);
	if (!row)
		return 0;
	row->key[0] = f.key[0];
	row->key[1] = f.key[1];
	row->word = f.word;
	row->ids = f.ids;
	row->marks = f.marks;
	row->ways = f.ways;
	__sync_lock_test_and_set(&row->check, f.check); /* ordered before the look below */
	record = bpf_map_lookup_elem(&flows, &key);
	if (!record || record->slot != slot)
		ACCESS_ONCE(row->key[1]) = 0;
	return 0;
}

#endif
