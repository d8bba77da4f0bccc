/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A fragment that came before its first waits with tunnel-gw, which is told when the first is there.
 *
 * Race: a first fragment may come on another CPU while a later one is on its way to tunnel-gw. Whoever punts looks again afterwards and
 * says itself that the first is there, so that the word always stands behind the packet in the ring.
 */
#ifndef DETOUR_FRAGMENT_HOLD_H
#define DETOUR_FRAGMENT_HOLD_H

#include "maps.h"
#include "packet.h"
#include "punt.h"
#include "fragment.h"

/* An event about a datagram: its fragments' source and destination, as they are, and its identification. */
static __always_inline void event_datagram(struct event *e, const struct packet *p, const struct datagram_key *key, enum event_type type)
{
	event_fill(e, p, type);
	__builtin_memcpy(e->key.a, key->src, 16);
	__builtin_memcpy(e->key.b, key->dst, 16);
	e->key.aport_be = e->key.bport_be = 0;
	e->key.scope = 0;
	e->key.proto = key->proto;
	e->old_path = key->id;
}

RARE long event_fragment_first(const struct packet *p, const struct datagram_key *key)
{
	struct scratch *s = scratch_here();

	if (!s || !p || !key)
		return -1;
	event_datagram(&s->event, p, key, EVENT_FRAGMENT_FIRST);
	return event_send(&s->event);
}

/* Neither its datagram's first nor a decision about it is here: tunnel-gw holds it. */
RARE int fragment_hold(struct xdp_md *ctx, struct packet *p, const struct control *c)
{
	struct scratch *s = scratch_here();
	struct datagram_key key = {};
	struct datagram *d;
	__u64 now = bpf_ktime_get_ns();
	int end;

	if (!s || !p || !c)
		return DROP_FRAGMENT;
	if (p->injected) /* it has waited */
		return DROP_FRAGMENT;
	if (!punt_allowed(p, c, PUNT_FRAGMENT))
		return DROP_PUNT_FULL;
	__builtin_memcpy(key.src, packet_src(p), 16);
	__builtin_memcpy(key.dst, packet_dst(p), 16);
	key.id = p->datagram;
	key.vrf = p->key.vrf;
	key.proto = p->v6 ? 0 : p->key.proto;
	d = bpf_map_lookup_elem(&datagrams, &key);
	if (!datagram_fresh(d, now)) {
		struct datagram waits = { .at_ns = now };

		bpf_map_update_elem(&datagrams, &key, &waits, d ? BPF_ANY : BPF_NOEXIST);
	}
	event_datagram(&s->event, p, &key, EVENT_FRAGMENT);
	end = punt_send(ctx, p, s);
	if (end != PACKET_PUNT)
		return end;
	count_stat(STAT_FRAGMENT_HELD);
	d = bpf_map_lookup_elem(&datagrams, &key);
	if (d && d->known)
		event_fragment_first(p, &key);
	return PACKET_PUNT;
}

#endif
