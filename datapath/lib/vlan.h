/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * VLAN tags (IEEE 802.1Q, 802.1ad): taken off where a packet comes in, put on where it leaves. In between there is none.
 *
 * A tagged frame belongs to the row of its device and tags; without such a row it is the stack's, as it came. Tag 0 says a priority
 * only: the frame is an untagged one. One tag or two: both EtherTypes are known in either place; what we push is 0x8100, behind 0x88a8
 * where there are two. Priority and drop eligibility of a tag end here. The kernel sees a VLAN as a veth pair (PORT_LINK_INNER is our
 * side of it), so sockets and routes have a device for each.
 */
#ifndef DETOUR_VLAN_H
#define DETOUR_VLAN_H

#include "maps.h"
#include "packet.h"

enum vlan_const { VLAN_TAG = 4, VLAN_ID_MASK = 0x0fff };

static __always_inline int vlan_type(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* 0: untagged, or its tags are off and key names them; PACKET_PASS: no row has these tags. */
RARE int vlan_pop(struct xdp_md *ctx, struct packet *p, struct port_key *key)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 tags = 1, *mac;
	struct port_key row;
	__be16 *at;

	if (!p || !key)
		return DROP_NO_TABLE;
	if (data + ETH_HLEN + 2 * VLAN_TAG > end || !vlan_type(ethertype_of(data)))
		return 0;
	at = data + ETH_HLEN;
	key->vlan = bpf_ntohs(at[0]) & VLAN_ID_MASK;
	if (key->vlan && vlan_type(at[1])) {
		key->inner = bpf_ntohs(at[2]) & VLAN_ID_MASK;
		tags = 2;
	}
	row = *key; /* kernels before 6.2 take a key from the stack only */
	if (!bpf_map_lookup_elem(&ports, &row))
		return PACKET_PASS;
	mac = data;
	if (tags == 2)
		mac[4] = mac[2], mac[3] = mac[1], mac[2] = mac[0];
	else
		mac[3] = mac[2], mac[2] = mac[1], mac[1] = mac[0];
	p->frame -= tags * VLAN_TAG;
	return bpf_xdp_adjust_head(ctx, tags * VLAN_TAG) ? DROP_ADJUST : 0;
}

static __always_inline const struct hop_tags *hop_tags(const struct hop *hop)
{
	return (const struct hop_tags *)hop->header;
}

/* The frame's first bytes: MACs (destination, source), the hop's tags, the type; room for them has been made. */
static __always_inline int frame_head(struct xdp_md *ctx, const struct hop *hop, const __u8 *macs, __be16 type)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	const struct hop_tags *tags = hop_tags(hop);
	__be16 *at = data + 2 * ETH_ALEN;

	if (data + ETH_HLEN + 2 * VLAN_TAG > end)
		return DROP_ADJUST;
	__builtin_memcpy(data, macs, 2 * ETH_ALEN);
	if (tags->outer) {
		at[0] = bpf_htons(ETH_P_8021AD);
		at[1] = bpf_htons(tags->outer);
		at[2] = bpf_htons(ETH_P_8021Q);
		at[3] = bpf_htons(tags->vlan);
		at[4] = type;
	} else if (tags->vlan) {
		at[0] = bpf_htons(ETH_P_8021Q);
		at[1] = bpf_htons(tags->vlan);
		at[2] = type;
	} else {
		at[0] = type;
	}
	return 0;
}

static __always_inline __u32 tag_bytes(const struct hop *hop)
{
	return hop_tags(hop)->outer ? 2 * VLAN_TAG : hop_tags(hop)->vlan ? VLAN_TAG : 0;
}

/* Out of the hop's device with these MACs, whatever stood in front of the packet. */
static __always_inline int frame_send(struct xdp_md *ctx, struct packet *p, const struct hop *hop, const __u8 *macs)
{
	int shrink = (int)packet_l2(p) - (int)tag_bytes(hop), why;

	if (shrink && bpf_xdp_adjust_head(ctx, shrink))
		return DROP_ADJUST;
	why = frame_head(ctx, hop, macs, p->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
	p->out = hop->ifindex;
	return why ? why : PACKET_FORWARD;
}

/* The way out is a VLAN port; its MACs are those that the routing table gave. */
RARE int vlan_leave(struct xdp_md *ctx, struct packet *p, const struct nexthop *to)
{
	struct hop *hop;

	if (!p || !to)
		return DROP_NO_TABLE;
	hop = hop_row(p->bank, to->hop);
	return hop && hop->kind == HOP_VLAN ? frame_send(ctx, p, hop, to->dmac) : DROP_NO_TABLE;
}

/* What the gateway's kernel sends to a VLAN port or a node's arm: its own frame, behind the tags. */
RARE int link_send(struct xdp_md *ctx, struct packet *p, const struct port *port)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u8 macs[2 * ETH_ALEN];
	struct hop *hop;
	__u32 tags;
	__be16 type;

	if (!p || !port)
		return DROP_NO_TABLE;
	hop = hop_row(p->bank, port->hop);
	if (!hop || !hop->ifindex)
		return DROP_NO_TABLE;
	p->out = hop->ifindex;
	tags = tag_bytes(hop);
	if (!tags)
		return PACKET_FORWARD;
	if (data + ETH_HLEN > end)
		return DROP_MALFORMED;
	__builtin_memcpy(macs, data, sizeof(macs));
	type = ethertype_of(data);
	if (bpf_xdp_adjust_head(ctx, -(int)tags))
		return DROP_ADJUST;
	return frame_head(ctx, hop, macs, type) ? DROP_ADJUST : PACKET_FORWARD;
}

#endif
