/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Part of the binary contract (abi.h): what `detour node attach` and the program on a service node (node.bpf.c) share. Included by abi.h. */
#ifndef DETOUR_ABI_NODE_H
#define DETOUR_ABI_NODE_H

enum node_limit {
	NODE_MAX_GATEWAYS = 64,
	NODE_MAX_HEADER = 228, /* up to the inner IP header: a frame has head-room for no more when it goes back (XDP: 256 bytes less 40) */
};

/* flow_key.scope on a node: what the key names. */
enum node_scope {
	NODE_SCOPE_FLOW = 0,
	NODE_SCOPE_FRAGMENT = 1, /* a datagram in fragments: ports are its identification */
	NODE_SCOPE_LINK = 2,	 /* all between the inner addresses of node and gateway: no protocol, no ports */
};

/* One row. Side 0 of the pair is where packets of a flow's initiator come out, side 1 where those to it do. */
struct node_settings {
	__u8 local[16];		/* our underlay address */
	__u32 tag;		/* VNI, or GRE key; 0 without one */
	__u32 underlay;		/* ifindex of the device that has it */
	__u32 inner[2];		/* ifindex of our side of the veth pair behind each side, or of a router's arm */
	__u8 to_mac[12];	/* frames that come out of each side have this destination, six bytes each; the first is the link's MAC too */
	__u8 from_mac[12];	/* and this source */
	__u16 mtu;		/* largest L3 packet that the sides take */
	__u8 proto;		/* enum tunnel_proto */
	__u8 inner_l3;		/* 1: IP inside, no Ethernet header */
	__u32 link;		/* ifindex of our side of the veth pair with the inner address; 0 = none (gwlb) */
	__u8 own[32];		/* with arms: the machine's own address on each, 16 bytes each */
	__u8 arms;		/* 1: the sides are devices of this machine to the two arms of a router */
	__u8 pad[7];
};

/* A gateway, by its underlay address (16 bytes). */
struct node_gateway {
	__u8 node[16];	/* inner address of the node; 0 = none (gwlb) */
	__u8 peer[16];	/* inner address of the gateway */
	__u32 number;	/* row of node_counters */
	__u32 pad;
};

/* Per CPU; times are CLOCK_MONOTONIC. */
struct node_gateway_counters {
	__u64 in_packets, in_bytes;	/* to the pair; bytes of L3 */
	__u64 back_packets, back_bytes;	/* to the gateway */
	__u64 echo_in, echo_back;	/* of these: from an address to itself */
	__u64 link_in, link_back;	/* of these: between the inner addresses */
	__u64 arp;			/* questions answered */
	__u64 dropped;			/* of its packets, before they reached the pair */
	__u64 last_ns;			/* last tunnel packet, dropped or not */
	__u64 wrong_tag_packets;
	__u64 wrong_tag;		/* the last one seen */
};

/* What came in front of the last packet of a flow and direction: up to and with the inner Ethernet header, where there is one. */
struct node_back {
	__u8 header[NODE_MAX_HEADER];
	__u16 len;	/* 0 = none has come */
	__u16 number;	/* of the gateway */
	__u8 ip6;	/* outer */
	__u8 pad[3];
};

struct node_flow {
	struct node_back way[2]; /* [direction] */
	__u8 fwd_b;		 /* 1: the initiator is end point b */
	__u8 pad[7];
};

/* The last tunnel packet to us that no gateway of ours sent. */
struct node_stranger {
	__u8 src[16];
	__u64 packets;
	__u64 last_ns;
};

_Static_assert(sizeof(struct node_settings) == 104, "node_settings");
_Static_assert(sizeof(struct node_gateway) == 40, "node_gateway");
_Static_assert(sizeof(struct node_gateway_counters) == 104, "node_gateway_counters");
_Static_assert(sizeof(struct node_back) == 236, "node_back");
_Static_assert(sizeof(struct node_flow) == 480, "node_flow");
_Static_assert(sizeof(struct node_stranger) == 32, "node_stranger");

#endif
