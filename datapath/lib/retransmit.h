/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Retransmissions, of a sample: of one TCP flow in 16, what enters with data that was sent before. Such a segment was lost behind this
 * gateway, on its way through the nodes or beyond them, or its acknowledgement was; or it was overtaken in front of the gateway, which
 * cannot be told apart. All nodes of the flow's path count it.
 */
#ifndef DETOUR_RETRANSMIT_H
#define DETOUR_RETRANSMIT_H

#include "maps.h"
#include "packet.h"
#include "path.h"

enum retransmit { SAMPLE_MASK = 15, /* of the flow's entropy */
		  SEQUENCE_WORDS = 4, /* of the TCP header, up to the data offset */
		  IP_BYTES_MAX = 0xffff };

static __always_inline int tcp_sampled(const struct packet *p)
{
	return p->key.proto == IPPROTO_TCP && !(p->entropy & SAMPLE_MASK) && !p->node && p->slot && !p->quoted && !p->fragment;
}

/*
 * Sequence numbers wrap (RFC 9293 3.4). What takes none of them is no segment here, nor is a keep-alive: at most one byte in front of the
 * next one (RFC 9293 3.8.4). A SYN with other numbers begins anew.
 */
RARE int tcp_watch(struct xdp_md *ctx, const struct packet *p)
{
	__be32 head[SEQUENCE_WORDS];
	__u32 slot, seq, data, len, next, i;
	struct flow_counters *f;
	struct path *path;
	int again = 0;

	if (!p)
		return 0;
	slot = p->slot;
	f = bpf_map_lookup_elem(&flow_counters, &slot);
	path = path_row(p->bank, p->path);
	if (!f || !path || bpf_xdp_load_bytes(ctx, p->l4, head, sizeof(head)))
		return 0;
	seq = bpf_ntohl(head[1]);
	data = p->ip_len - (p->l4 - p->l2 - ETH_HLEN) - (bpf_ntohl(head[3]) >> 28) * 4;
	if (data > IP_BYTES_MAX)
		return 0; /* a header longer than its packet */
	len = data + !!(p->tcp_flags & TCP_SYN) + !!(p->tcp_flags & TCP_FIN);
	if (!len)
		return 0;
	next = f->next_seq[p->dir & 1];
	if (!next || (p->tcp_flags & TCP_SYN && seq + len != next) || (__s32)(seq + len - next) > 0)
		f->next_seq[p->dir & 1] = seq + len;
	else if (len == 1 && data && seq + 1 == next)
		return 0;
	else
		again = 1;
	for (i = 0; i < DT_MAX_PATH_HOPS; i++) {
		__u32 node = path->node[i];
		struct node_counters *n = i < path->nhops ? bpf_map_lookup_elem(&node_counters, &node) : NULL;

		if (!n)
			break;
		n->segments++;
		n->segments_again += again;
	}
	return 0;
}

#endif
