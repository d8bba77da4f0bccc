/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments follow their first: it alone has the ports, so it alone says which flow a datagram belongs to.
 *
 * The first fragment leaves the flow's key in `datagrams`, under source, destination, identification and protocol (RFC 791 3.2; for IPv6
 * without the protocol, RFC 8200 4.5). A later one takes the key from there and is a packet of the flow from then on. One that comes
 * before its first is held by tunnel-gw, for a bounded time, and put back when the first has come; then it finds
 * the key, or is dropped as fragment. Nothing is reassembled here: nodes and end points do that, and overlaps are theirs to refuse.
 *
 * A first fragment must hold the whole transport header (RFC 1858 3, RFC 7112), and none may begin inside TCP's (RFC 3128).
 * Bounds: DATAGRAMS entries of which a flood pushes out only others, a token bucket per source for those before their first, and what
 * tunnel-gw holds at most. An entry is believed for FRAGMENT_NS, so that an identification that comes again names its own first.
 */
#ifndef DETOUR_FRAGMENT_H
#define DETOUR_FRAGMENT_H

#include "maps.h"
#include "packet.h"
#include "count.h"

#define FRAGMENT_NS 5000000000ull

static __always_inline int datagram_fresh(const struct datagram *d, __u64 now)
{
	return d && now - d->at_ns < FRAGMENT_NS;
}

/* In fragment-hold.h. */
RARE long event_fragment_first(const struct packet *p, const struct datagram_key *key);

/* p->key is the packet's flow: so say those behind it. */
static __always_inline int fragment_first(const struct packet *p, const struct datagram_key *key)
{
	__u64 now = bpf_ktime_get_ns();
	struct datagram *was = bpf_map_lookup_elem(&datagrams, key);
	int awaited = datagram_fresh(was, now) && !was->known;
	struct datagram d = { .key = p->key, .at_ns = now, .known = 1, .norm = p->norm, .quoted = p->quoted };

	bpf_map_update_elem(&datagrams, key, &d, BPF_ANY);
	if (awaited)
		event_fragment_first(p, key);
	return 0;
}

/* Takes the key of its datagram's flow, or is odd until it is known. */
static __always_inline int fragment_later(struct packet *p, const struct datagram_key *key)
{
	struct datagram *d = bpf_map_lookup_elem(&datagrams, key);

	if (!datagram_fresh(d, bpf_ktime_get_ns()) || !d->known) {
		p->odd = DROP_FRAGMENT;
		return 0;
	}
	p->key = d->key;
	p->norm = d->norm;
	p->quoted = d->quoted;
	count_stat(STAT_FRAGMENT_FOLLOWED);
	return 0;
}

#endif
