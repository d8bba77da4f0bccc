/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a flow's path still holds, and which one it gets when not.
 *
 * A word is good while its chain generation is the chain's and its path is up. Otherwise, in this order: the path is up after all, then
 * the generation is refreshed; it is down and the chain keeps flows, then the packet is dropped and the word stays, so that the flow
 * goes on when the node is back (not of a flow of which nothing but its opening was seen: there is nothing to keep); else the path's heir, which shares nodes with it; else the hash chooses anew, from the chain, then from
 * its backup chain; else the chain's onFailure.
 * The word is swapped as a whole: of several CPUs one wins, the others follow its answer. Redis hears of it afterwards (EVENT_REPIN).
 */
#ifndef DETOUR_PATH_H
#define DETOUR_PATH_H

#include "maps.h"
#include "flow.h"
#include "select.h"
#include "punt.h"

static __always_inline __u64 word_with(__u64 word, __u32 path, __u16 gen)
{
	word &= ~((__u64)WORD_PATH_MASK | 0xffffull << WORD_CHAIN_GEN_SHIFT);
	return word | path | (__u64)gen << WORD_CHAIN_GEN_SHIFT;
}

/* The word that is in force afterwards: ours, or that of who was faster. */
static __always_inline __u64 word_swap(struct flow *f, __u64 old, __u64 new)
{
	__u64 was = __sync_val_compare_and_swap(&f->word, old, new);

	return was == old ? new : was;
}

static __always_inline int path_failed(const struct chain *chain)
{
	return chain->on_failure == ON_FAILURE_BYPASS ? PACKET_LEAVE : DROP_NODE_DOWN;
}

/* The path that keeps most of this one's nodes, if it is up. */
static __always_inline __u32 path_heir(__u32 bank, const struct path *path)
{
	__u32 number = path->heir;
	struct path *heir = path_row(bank, number);

	return heir && heir->state == PATH_UP && heir->chain == path->chain ? number : 0;
}

/* 0 with p->path, a drop reason, or PACKET_LEAVE where a bypass is allowed. */
RARE int path_renew(struct packet *p, const struct control *c, struct flow *f, struct chain *chain)
{
	__u64 word, now;
	__u32 old, number = 0;
	__u16 gen;

	if (!p || !c || !f || !chain)
		return DROP_NO_TABLE;
	word = ACCESS_ONCE(f->word);
	old = word_path(word);
	gen = chain->gen;
	if (old) {
		struct path *path = path_row(p->bank, old);
		int ours = path && (path->chain == f->chain || (chain->on_failure == ON_FAILURE_BACKUP && path->chain == chain->backup));

		if (ours && path->state == PATH_UP) {
			now = word_swap(f, word, word_with(word, old, gen));
			count_stat(STAT_REVALIDATED);
			p->path = word_path(now);
			return p->path ? 0 : path_failed(chain);
		}
		if (ours && path->state == PATH_DOWN && f->slot && chain->on_node_down == ON_NODE_DOWN_KEEP)
			return DROP_NODE_DOWN;
		number = ours ? path_heir(p->bank, path) : 0;
	} else if (word_chain_gen(word) == gen && chain->on_failure != ON_FAILURE_BACKUP) {
		return path_failed(chain);
	}
	if (!number)
		number = select_path(&p->key, c->hash_key, p->bank, f->chain, word_initiator(word));
	if (!number && chain->on_failure == ON_FAILURE_BACKUP)
		number = select_path(&p->key, c->hash_key, p->bank, chain->backup, word_initiator(word));
	now = word_swap(f, word, word_with(word, number, gen));
	p->path = word_path(now);
	if (!p->path)
		return path_failed(chain);
	if (p->path == number && number != old) {
		count_stat(STAT_REPINNED);
		event_repin(p, f, old, number);
	}
	return 0;
}

/* 0 with p->path up, a drop reason, or PACKET_LEAVE. */
static __always_inline int path_check(struct packet *p, const struct control *c, struct flow *f)
{
	struct chain *chain = chain_row(p->bank, f->chain);
	__u64 word = ACCESS_ONCE(f->word);
	struct path *path;

	if (!chain || !chain->valid)
		return DROP_NO_TABLE;
	p->path = word_path(word);
	path = path_row(p->bank, p->path);
	if (word_chain_gen(word) == chain->gen && path && path->state == PATH_UP)
		return 0;
	return path_renew(p, c, f, chain);
}

#endif
