/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * detour_edge: the program on every port of a gateway.
 *
 *	port ── VLAN tag off ── inject header? ── underlay? outer header → tunnel → inner packet ─┐
 *	                                                                                          ▼
 *	                             parse → front row, or flow ── unknown → local? → decide, or punt
 *	                                               │
 *	              ┌── returned by a node: position on its path, next hop or leave
 *	              ├── steer: path valid? else renew → first hop
 *	              ├── allow: leave
 *	              └── drop
 *
 * Every packet ends in count_end, in exactly one of forwarded, passed, punted, dropped. The bank is read once. What no rule's port
 * has asked for is the kernel's: a device without a row passes, and the machine's forward guard keeps that from being routed.
 *
 * Races that are allowed: two CPUs may both renew a path (the word is swapped whole, one wins), both promote an embryo (one insert wins),
 * both let a packet past a bucket. A packet on its way while its flow is re-pinned finds its node off the path when it returns and is
 * dropped as strict_return, unless it had only to leave.
 */
#include "lib/maps.h"
#include "lib/packet.h"
#include "lib/count.h"
#include "lib/parse.h"
#include "lib/front.h"
#include "lib/flow.h"
#include "lib/select.h"
#include "lib/rules.h"
#include "lib/punt.h"
#include "lib/path.h"
#include "lib/encap.h"
#include "lib/vlan.h"
#include "lib/route.h"
#include "lib/tunnel.h"
#include "lib/inject.h"
#include "lib/mss.h"
#include "lib/fragment-hold.h"
#include "lib/too-big.h"
#include "lib/outer-error.h"
#include "lib/service-port.h"
#include "lib/decide.h"
#include "lib/reset.h"
#include "lib/retransmit.h"

/* Source addresses that no packet on a wire may have. */
static __always_inline int source_impossible(const struct packet *p)
{
	const __u8 *s = packet_src(p), *d = packet_dst(p);

	if (p->v6)
		return s[0] == 0xff || (s[0] == 0xfe && (s[1] & 0xc0) == 0x80) || (!((__u64 *)s)[0] && !((__u32 *)s)[2]) ||
		       (!((__u64 *)d)[0] && !((__u32 *)d)[2]);
	return s[12] == 0 || s[12] == 127 || s[12] >= 240 || (s[12] & 0xf0) == 224 || d[12] == 0 || d[12] == 127 || d[12] >= 240;
}

/* No decision is known for this packet. */
RARE int flow_missed(struct xdp_md *ctx, struct packet *p, const struct control *c)
{
	__u32 own;
	int why;

	if (!p || !c)
		return DROP_NO_TABLE;
	if (p->leaves) {
		if (p->tcp_flags & TCP_RST && !p->quoted)
			reset_leaves(p);
		return c->live ? PACKET_LEAVE : DROP_NOT_LIVE;
	}
	if (p->quoted && (why = parse_unquoted(ctx, p)))
		return why;
	own = own_as(p, packet_dst(p), p->key.vrf);
	if (own & OWN_SNAT_SHARED && !(own & OWN_LOCAL) && p->asked & PACKET_SNAT && !p->odd && c->live)
		return snat_ask(ctx, p, c);
	if (own && !snat_awaits_first(p, own))
		return own & OWN_LOCAL ? PACKET_PASS : p->odd ? p->odd : DROP_SNAT_UNKNOWN;
	if (source_impossible(p) || own_as(p, packet_src(p), p->key.vrf))
		return DROP_SPOOF;
	if (!c->live)
		return DROP_NOT_LIVE;
	if (p->odd)
		return p->odd == DROP_FRAGMENT ? fragment_hold(ctx, p, c) : p->odd;
	if (p->node)
		return p->strict ? DROP_STRICT_RETURN : PACKET_LEAVE;
	if (p->serviced)
		return DROP_SERVICE_LOOP;
	return p->classify ? PACKET_ASK : PACKET_LEAVE;
}

/* Along the path p->path, to the hop at p->position of the packet's direction. */
static __always_inline int path_send(struct xdp_md *ctx, struct packet *p)
{
	struct path *path = path_row(p->bank, p->path);
	__u32 position = p->position;
	__u32 at = (p->dir & 1) * DT_MAX_PATH_HOPS + position;
	int end;

	if (!path || position >= path->nhops || at >= 2 * DT_MAX_PATH_HOPS)
		return DROP_NO_TABLE;
	p->sidx = path->nhops - position;
	end = hop_send(ctx, p, path->hop[at], p->entropy);
	if (end == PACKET_FRAME)
		end = arm_send(ctx, p, path->hop[at], p->inside);
	if (end == PACKET_FORWARD)
		count_node(path->node[(p->dir ? path->nhops - 1 - position : position) & (DT_MAX_PATH_HOPS - 1)], p->ip_len, 0);
	return end;
}

/* Hops that a packet which this node returned has behind it in its direction; 0: the node is not on the path. */
static __always_inline __u32 path_behind(const struct packet *p, __u32 *nhops)
{
	struct path *path = path_row(p->bank, p->path);
	__u32 i;

	if (!path)
		return 0;
	*nhops = path->nhops;
	if (path->nhops == 1)
		return path->node[0] == p->node;
	for (i = 0; i < DT_MAX_PATH_HOPS; i++)
		if (i < path->nhops && path->node[i] == p->node)
			return p->dir ? path->nhops - i : i + 1;
	return 0;
}

/* A node gave the packet back: on to the next one, or out. */
static __always_inline int returned(struct packet *p, const struct control *c, struct flow **flow)
{
	struct flow *f = *flow;
	__u32 behind = 0, nhops = 0;
	__u64 word = ACCESS_ONCE(f->word);
	int why;

	p->path = word_path(word);
	if (word_serviced(word))
		behind = path_behind(p, &nhops);
	if (!behind && (f = flow_alternative(p, f))) {
		word = ACCESS_ONCE(f->word);
		p->path = word_path(word);
		if (word_serviced(word))
			behind = path_behind(p, &nhops);
		flow_facts(p, f);
		*flow = f;
	}
	if (!behind)
		return p->strict ? DROP_STRICT_RETURN : PACKET_LEAVE;
	if ((p->asked & (TUNNEL_COOKIE | TUNNEL_PATH)) && !p->injected && (why = told_wrong(p, c, f->slot)))
		return why;
	p->inside = word_side(word, p);
	if (p->arms && !arm_opposite(p))
		return DROP_SERVICE_LOOP;
	if (!p->injected)
		count_node(p->node, p->ip_len, 1);
	if (word_programmed(word))
		return word_action(word) == FLOW_DROP ? DROP_FP_DROP : PACKET_LEAVE;
	if (behind == nhops)
		return PACKET_LEAVE;
	if ((why = path_check(p, c, f)))
		return why == PACKET_LEAVE ? DROP_NODE_DOWN : why;
	behind = path_behind(p, &nhops);
	if (!behind)
		return DROP_NODE_DOWN;
	p->position = behind;
	return behind == nhops ? PACKET_LEAVE : PACKET_STEER;
}

static __always_inline int drop_of(__u64 word)
{
	if (word_programmed(word))
		return DROP_FP_DROP;
	return word >> WORD_FLAGS_SHIFT & WORD_FLAG_UNRESOLVED ? DROP_UNRESOLVED : DROP_RULE;
}

/* A SYN enters its path: its chain may want smaller segments. */
static __noinline void syn_steered(struct xdp_md *ctx, const struct packet *p)
{
	struct chain *chain = chain_row(p->bank, p->chain);

	if (chain && chain->mss)
		mss_clamp(ctx, p, chain->mss);
}

/* The flow's own decision. */
static __always_inline int decided(struct packet *p, const struct control *c, struct flow *f)
{
	__u64 word = ACCESS_ONCE(f->word);
	__u32 action = word_action(word);
	int why;

	if (f->rules_gen != c->rules_gen) {
		__u32 gen = c->rules_gen;
		struct chain *chain = chain_row(p->bank, f->chain);

		if ((!chain || chain->on_rule_change == ON_RULE_CHANGE_REVALIDATE) && !rule_holds(p, c, f) && !event_revalidate(p, f))
			f->rules_gen = gen;
	}
	if (action == FLOW_STEER) {
		why = path_check(p, c, f);
		p->inside = word_side(word, p);
		if (!why)
			return PACKET_STEER;
		if (why == PACKET_LEAVE)
			count_stat(STAT_BYPASSED);
		return why;
	}
	if (action == FLOW_ALLOW) {
		if (word_programmed(word))
			count_stat(STAT_FP_SKIPPED);
		return PACKET_LEAVE;
	}
	if (action == FLOW_DROP)
		return drop_of(word);
	return DROP_NO_TABLE;
}

/* What a row of flow_front says; 0: nothing that could be done without the record. */
static __always_inline int known(struct packet *p, const struct control *c)
{
	__u32 action, behind = 0, nhops = 0;
	struct flow_front row;
	struct chain *chain;
	struct path *path;

	if (!front_able(p, c) || tcp_opens(p) || !front_find(p, c, &row))
		return 0;
	action = word_action(row.word);
	if (word_programmed(row.word))
		return 0;
	p->dir = p->norm ^ word_initiator(row.word);
	p->way = (p->dir ? row.ways >> 16 : row.ways) & 0xffff;
	p->slot = row.ids;
	p->rule = row.ids >> 32;
	p->entropy = row.marks >> 16;
	p->chain = row.marks;
	p->inside = word_side(row.word, p);
	if (action != FLOW_STEER) {
		if (p->node || (!p->dir && (__u16)(row.marks >> 32) != p->port) || (action == FLOW_ALLOW && !p->way))
			return 0;
		p->of_flow = 1;
		return action == FLOW_ALLOW ? PACKET_LEAVE : drop_of(row.word);
	}
	p->path = word_path(row.word);
	chain = chain_row(p->bank, p->chain);
	path = path_row(p->bank, p->path);
	if (!chain || !chain->valid || chain->gen != word_chain_gen(row.word) || !path || path->state != PATH_UP)
		return 0;
	if (p->node) {
		behind = path_behind(p, &nhops);
		if (!behind || (behind == nhops && !p->way))
			return 0;
		if ((p->asked & (TUNNEL_COOKIE | TUNNEL_PATH)) && !p->injected && told_wrong(p, c, p->slot))
			return 0;
		if (p->arms && !arm_opposite(p))
			return 0;
		if (!p->injected)
			count_node(p->node, p->ip_len, 1);
		p->position = behind;
		return behind == nhops ? PACKET_LEAVE : PACKET_STEER;
	}
	if (!p->dir && (__u16)(row.marks >> 32) != p->port)
		return 0;
	p->of_flow = 1;
	p->position = 0;
	return PACKET_STEER;
}

/* What the record says, or the lack of one. */
static __always_inline int recorded(struct xdp_md *ctx, struct packet *p, const struct control *c, struct flow **flow)
{
	struct flow *f = c->live && !p->odd && !p->leaves ? flow_find(ctx, p) : NULL;
	int end;

	if (f && tcp_opens(p) && word_action(ACCESS_ONCE(f->word)) != FLOW_PENDING && flow_ended(p, c))
		f = NULL;
	if (!f || word_action(ACCESS_ONCE(f->word)) == FLOW_PENDING) {
		end = flow_missed(ctx, p, c);
		if (end != PACKET_ASK)
			return end;
		count_lookup(p);
		if (!f && !(end = flow_decide(p, c))) {
			f = bpf_map_lookup_elem(&embryos, &p->key);
			if (!f)
				return DROP_CONN_FULL;
			if (word_action(ACCESS_ONCE(f->word)) == FLOW_PENDING)
				end = PACKET_ASK;
		}
		if (end)
			return end == PACKET_ASK ? punt_miss(ctx, p, c) : end;
		p->dir = p->norm ^ word_initiator(ACCESS_ONCE(f->word));
		flow_facts(p, f);
	}
	*flow = f;
	if (p->node)
		return returned(p, c, flow);
	p->of_flow = 1;
	end = decided(p, c, f);
	if (end == DROP_NODE_DOWN)
		reset_ask(ctx, p, c, f);
	return end;
}

static __always_inline int walk(struct xdp_md *ctx, struct packet *p, const struct control *c)
{
	struct port_key key = { .ifindex = ctx->ingress_ifindex, .bank = p->bank };
	struct port *row = bpf_map_lookup_elem(&ports, &key), *entered = NULL;
	struct flow *f = NULL;
	int end;

	if (!row)
		return PACKET_PASS;
	if (row->flags & PORT_TAGS) {
		if ((end = vlan_pop(ctx, p, &key)))
			return end;
		if (key.vlan && !(row = bpf_map_lookup_elem(&ports, &key)))
			return DROP_NO_TABLE;
		p->deliver = row->vti_ifindex;
	}
	p->count_port = p->port = row->number;
	switch (row->kind) {
	case PORT_UNDERLAY:
		end = tunnel_take(ctx, p);
		if (end == PACKET_PASS)
			outer_error(ctx, p, c);
		break;
	case PORT_INTERNAL:
	case PORT_UPLINK:
	case PORT_VTI:
	case PORT_GUEST:
		entered = row;
		port_enter(p, row);
		end = 0;
		break;
	case PORT_SERVICE:
		entered = row;
		arm_enter(p, row);
		end = 0;
		break;
	case PORT_NONE:
		return PACKET_PASS;
	case PORT_LINK_INNER:
		return c->live ? link_send(ctx, p, row) : DROP_NOT_LIVE;
	case PORT_VTI_INNER:
		return c->live ? vti_send(ctx, p, row) : DROP_NOT_LIVE;
	case PORT_INJECT:
		end = inject_take(ctx, p);
		break;
	default:
		end = DROP_UNSUPPORTED;
	}
	if (end || (end = packet_parse(ctx, p, entered)))
		return end;
	if (p->asked & PACKET_SNAT && (end = snat_in(ctx, p)))
		return end;
	if (p->outer_ecn & ECN_TOLD && (end = ecn_combine(ctx, p)))
		return end;
	end = c->live && !p->odd && !p->leaves ? known(p, c) : 0;
	if (!end) {
		p->way = 0;
		end = recorded(ctx, p, c, &f);
	}
	if (end == PACKET_STEER && begins_again(p))
		end = DROP_SERVICE_LOOP;
	if (end == PACKET_STEER) {
		if (p->tcp_flags & TCP_SYN && !p->node)
			syn_steered(ctx, p);
		if (tcp_sampled(p))
			tcp_watch(ctx, p);
		end = path_send(ctx, p);
	}
	if (end == PACKET_LEAVE)
		end = leave(ctx, p, c, f);
	if (f)
		front_put(p, c);
	return end;
}

SEC("xdp")
int detour_edge(struct xdp_md *ctx)
{
	struct packet p = { .frame = packet_data_end(ctx) - packet_data(ctx) };
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	int end;

	if (!c)
		return XDP_ABORTED;
	p.bank = ACCESS_ONCE(c->bank) & 1;
	p.epoch = control_epoch(c);
	end = walk(ctx, &p, c);
	if (end != PACKET_FORWARD) {
		if (end == PACKET_PASS)
			end = packet_pass(ctx, &p);
		else if (end == DROP_TOO_BIG)
			end = too_big(ctx, &p, c);
	}
	return count_end(ctx, &p, end);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
