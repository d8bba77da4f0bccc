/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Part of the binary contract (abi.h): what the datapath tells tunnel-gw, and the frames that come back. Included by abi.h, whose keys it uses. */
#ifndef DETOUR_ABI_EVENTS_H
#define DETOUR_ABI_EVENTS_H

/* ---- events (ring buffer) --------------------------------------------------------------------------------------- */

enum event_type {
	EVENT_PUNT_MISS = 1,	/* a flow without a decision; the packet follows */
	EVENT_PUNT_NEIGH = 2,	/* the next hop has no MAC; the packet follows */
	EVENT_REPIN = 3,	/* the kernel moved a flow to another path */
	EVENT_REVALIDATE = 4,	/* rules changed since this flow was classified */
	EVENT_HOP_NEIGH = 5,	/* a hop row is not ready; no packet */
	EVENT_TOO_BIG = 6,	/* larger than its way takes; the packet follows, its first DT_PUNT_BYTES at least */
	EVENT_FRAGMENT = 7,	/* a fragment that came before its first, which follows */
	EVENT_FRAGMENT_FIRST = 8, /* the first fragment of a datagram of which others wait */
	EVENT_DECIDED = 10,	/* a flow that was decided here has more than its opening packet: Redis is to know of it */
	EVENT_OUTER_ERROR = 9,	/* an ICMP error to our underlay address, which follows: it may be about a tunnel's packet */
	EVENT_PUNT_SNAT = 11,	/* it leaves by a port with SNAT, and its flow has no binding there; the packet follows */
	EVENT_SNAT_UNKNOWN = 13, /* to a SNAT address that other gateways use too, and no flow here has that binding; the packet follows */
	EVENT_RESET = 12,	/* a TCP packet of a flow whose node is down, and that is kept: its ends are to be told; no packet */
};

/* EVENT_PUNT_MISS: what the packet is to its flow. */
enum event_first { EVENT_FIRST = 1,	/* the first packet of an undecided flow; EVENT_RESET: nobody was told yet, so that both ends are */
		   EVENT_SAMPLED = 2,	/* the datapath could have decided it: asked about for its trace */
		   EVENT_AGAIN = 4 };	/* a SYN that is sent again: another gateway may have had its answer, so that Redis may know the flow */

/* Where a held packet goes on when it comes back. */
enum inject_op { INJECT_PORT = 1, INJECT_RETURN = 2, INJECT_DROP = 3,
		 INJECT_LEAVE = 4 /* tunnel-gw's own packet: leaves by the routing table of the port's VRF, whatever flows there are */ };

struct event {
	__u32 type;		/* enum event_type */
	__u32 packet_len;	/* bytes of packet that follow this header */
	__u64 at_ns;		/* CLOCK_MONOTONIC */
	struct flow_key key;
	__u8 norm;		/* 1: the packet's source is end point b */
	__u8 op;		/* enum inject_op with which to put the packet back */
	__u8 tcp_flags;
	__u8 first;		/* enum event_first */
	__u16 port;		/* number of the port by which it entered */
	__u16 node;		/* INJECT_RETURN: the node that it came back from; EVENT_HOP_NEIGH: the node it was meant for */
	__u32 old_path;		/* EVENT_REPIN; EVENT_HOP_NEIGH: the hop row; EVENT_PUNT_NEIGH: the hop row of an arm, whose next hop is meant;
				 * EVENT_TOO_BIG: bytes of the largest L3 packet that fits;
				 * EVENT_FRAGMENT, EVENT_FRAGMENT_FIRST: the datagram's identification;
				 * EVENT_PUNT_SNAT: number of the port by which it leaves;
				 * EVENT_RESET: the segment's sequence number */
	__u32 new_path;		/* EVENT_REPIN; EVENT_DECIDED: its path, and old_path is its slot; EVENT_RESET: its acknowledgement number */
	__u16 chain;
	__u16 pin_gen;
	__u32 out_ifindex;	/* EVENT_PUNT_NEIGH, EVENT_HOP_NEIGH; EVENT_RESET: bytes of data */
	__u8 next_hop[16];	/* EVENT_PUNT_NEIGH */
};

/* In front of every frame that tunnel-gw writes to the inject device; an Ethernet header of our own, then the frame as it was. */
enum inject_ethertype { INJECT_ETHERTYPE = 0x88b5 /* IEEE 802 local experimental 1 */ };
struct inject_hdr {
	__u8 dst[6];
	__u8 src[6];
	__be16 ethertype_be;
	__u8 op;	/* enum inject_op */
	__u8 reason;	/* INJECT_DROP: enum drop_reason, so that a held packet's end is counted where all are */
	__u16 port;	/* INJECT_PORT, INJECT_LEAVE, as in the event; map port_numbers has the row (bank * DT_MAX_PORTS + number) */
	__u16 node;	/* INJECT_RETURN, as in the event; map node_tunnels has the row (bank * DT_MAX_NODES + node) */
	__u32 pad;
};

_Static_assert(sizeof(struct event) == 96, "event");
_Static_assert(sizeof(struct inject_hdr) == 24, "inject_hdr");

#endif
