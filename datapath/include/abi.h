/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The binary contract between the datapath (C) and everything that fills or reads its maps (TypeScript).
 *
 * This, with the headers that it includes at its end, is the one home of struct layouts, limits, drop reasons and flag bits. tools/gen-abi makes
 * packages/contracts/src/gen/abi.ts from it through BTF, so a field that is moved here moves there.
 *
 * Conventions: every address is 16 bytes, an IPv4 one as ::ffff:a.b.c.d (RFC 4291 2.5.5.2); fields named *_be are in network
 * order, all others in host order; padding is explicit; index 0 of every numbered table means "none".
 *
 * Banks: a banked table has every row twice, at index bank * MAX + number. The gateway writes the idle bank, then stores
 * control.bank once. A packet reads control.bank once and uses that value to its end.
 */
#ifndef DETOUR_ABI_H
#define DETOUR_ABI_H

#include <linux/types.h>

enum detour_limit {
	DT_BANKS = 2,
	DT_MAX_PORTS = 256,	 /* port numbers 1..254 fit flow_key.scope */
	DT_MAX_TUNNELS = 4096,	 /* rows of the tunnel table, both banks together */
	DT_SENT_ROWS = 2048,	 /* frames handed to devices are counted in row ifindex modulo this */
	DT_MAX_NODES = 4096,
	DT_MAX_CHAINS = 64,
	DT_MAX_PATHS = 16384,
	DT_MAX_HOPS = 8448,	 /* node n: row n to steer, row 4096 + n for its VTI; branch or VLAN port p: row 8192 + p */
	DT_SECOND_ARM = 4096,	 /* l2pair, l3: row n is the arm that faces the uplink, row n + this the one that faces the inside */
	DT_MAX_RULES = 131072,
	DT_MAX_PATH_HOPS = 8,
	DT_FREE_SLOTS = 65536,	 /* counter rows that the datapath may have in advance, for flows that it decides; a power of two */
	DT_MAX_SLOTS = 65537,	 /* the largest selection table; prime */
	DT_MAX_WAYS = 1024,	 /* ways out in use at once that flow_front can name; row 0 is none */
	DT_MAX_HEADER = 136,	 /* outer header template: Ethernet 14 + IPv6 40 + UDP 8 + Geneve 8 + our option 52 + inner Ethernet 14 */
	DT_PENDING_QUEUE = 16,	 /* packets of one undecided flow that are punted before punt_full */
	DT_PUNT_BYTES = 9216,	 /* the longest packet that a punt can carry */
};

/* ---- keys ------------------------------------------------------------------------------------------------------- */

/*
 * A flow, direction-normalised: (a, aport) is the end point that sorts first when address bytes, then the port as a number,
 * are compared. ICMP echo uses its identifier for both ports; other ICMP uses 0.
 * scope 0 is the flow's own record; scope N is the record for forward packets of the same tuple that enter by port number N although
 * the record of scope 0 was made for another port.
 */
struct flow_key {
	__u8 a[16];
	__u8 b[16];
	__be16 aport_be;
	__be16 bport_be;
	__u16 vrf;
	__u8 proto;
	__u8 scope;
};

struct port_key {
	__u32 ifindex;
	__u16 vlan;	/* 0 = untagged */
	__u16 bank;
	__u16 inner;	/* QinQ: the second tag; vlan is the first */
	__u16 pad;
};

struct tunnel_key {
	__u8 src[16];	/* outer source: the remote end */
	__u8 dst[16];	/* outer destination: our underlay address */
	__u32 vni;	/* GRE: the key; 0 without one */
	__u8 proto;	/* enum tunnel_proto */
	__u8 bank;
	__u16 pad;
};

struct own_key {
	__u8 addr[16];
	__u16 vrf;	/* 0 = the underlay's own addresses */
	__u16 bank;
};

struct egress_key {
	__u32 ifindex;	/* the operator's side of a VTI, as routes name it */
	__u32 bank;
};

/* A token bucket: of one source address, for one purpose. */
struct source_key {
	__u8 addr[16];
	__u16 vrf;
	__u16 purpose;	/* enum source_purpose */
};

/* A datagram whose fragments are on their way (RFC 791 3.2, RFC 8200 4.5). Not normalised: src and dst as in the packet. */
struct datagram_key {
	__u8 src[16];
	__u8 dst[16];
	__u32 id;	/* identification, host order */
	__u16 vrf;
	__u8 proto;	/* 0 for IPv6, where later fragments need not repeat it */
	__u8 pad;
};

/* ---- rows ------------------------------------------------------------------------------------------------------- */

enum port_kind { PORT_NONE = 0, PORT_INTERNAL = 1, PORT_UPLINK = 2, PORT_VTI = 3, PORT_GUEST = 4, PORT_UNDERLAY = 5, PORT_SERVICE = 6,
		 PORT_VTI_INNER = 7,	/* our side of a VTI's veth pair: what the gateway's kernel sends into the tunnel */
		 PORT_INJECT = 8,	/* frames that tunnel-gw puts back, behind a struct inject_hdr */
		 PORT_LINK_INNER = 9 };	/* our side of the veth pair of a VLAN port or of a node's arm: what the gateway's kernel sends there */
enum port_flag { PORT_CLASSIFY = 1,
		 PORT_TAGS = 2,		/* rows of VLANs are on this device; kind PORT_NONE where it has no use untagged */
		 PORT_ARM_A = 4,	/* PORT_SERVICE: the arm that faces the uplink; of a node with one arm neither */
		 PORT_ARM_B = 8,
		 PORT_INSIDE = 16,	/* what enters here comes from the inside: WORD_FLAG_INSIDE of flows that begin here */
		 PORT_SNAT = 32 };	/* what leaves here gets another source: what comes may be for one */
enum tunnel_proto { TUNNEL_NONE = 0, TUNNEL_VXLAN = 1, TUNNEL_GENEVE = 2, TUNNEL_GRE = 3 /* with a key */, TUNNEL_GRE_PLAIN = 4 };
/* Of struct tunnel; the first is PORT_CLASSIFY. */
enum tunnel_flag { TUNNEL_CHECKSUM = 2,	/* GRE without a checksum is none of this tunnel's */
		   TUNNEL_COOKIE = 4,	/* gwlb: what comes back carries its flow's cookie */
		   TUNNEL_PATH = 8,	/* what comes back carries our option as it was sent */
		   TUNNEL_PATH_REVERSE = 16 }; /* of what a packet brought, not of a tunnel: our option says that it is a reply */
enum hop_flag { HOP_CHECKSUM = 1,	/* a checksum over GRE or outer UDP is filled in */
		HOP_COOKIE = 2,		/* gwlb: the flow's cookie goes to patch_at */
		HOP_PATH = 4 };		/* our option is at patch_at */
enum flow_action { FLOW_NONE = 0, FLOW_PENDING = 1, FLOW_ALLOW = 2, FLOW_DROP = 3, FLOW_STEER = 4 };
enum on_failure { ON_FAILURE_DROP = 0, ON_FAILURE_BYPASS = 1, ON_FAILURE_BACKUP = 2 };
enum on_node_down { ON_NODE_DOWN_REBALANCE = 0, ON_NODE_DOWN_KEEP = 1 };
enum on_rule_change { ON_RULE_CHANGE_REVALIDATE = 0, ON_RULE_CHANGE_KEEP = 1 };
enum affinity { AFFINITY_5_TUPLE = 0, AFFINITY_3_TUPLE = 1, AFFINITY_2_TUPLE = 2, AFFINITY_SOURCE = 3 };
enum path_state { PATH_NONE = 0, PATH_UP = 1, PATH_DOWN = 2 };
enum hop_kind { HOP_NONE = 0, HOP_TUNNEL = 1, HOP_L2 = 2, HOP_L3 = 3,
		HOP_VLAN = 4 };	/* out of a VLAN port: the MACs are the route's */
enum source_purpose { PUNT_DECISION = 0, PUNT_TOO_BIG = 1, PUNT_FRAGMENT = 2, PUNT_OUTER_ERROR = 3,
		      SOURCE_BEGINS = 4 /* new flows that the datapath decides */, PUNT_SNAT = 5,
		      SOURCE_RESET = 6 };
/* Which flows of a chain the datapath decides, where rules let it. */
enum chain_decides { DECIDES_NONE = 0,	  /* tunnel-gw is asked: the choice needs what only user space knows */
		     DECIDES_OPENING = 1, /* those that begin with a TCP SYN */
		     DECIDES_ANY = 2 };	  /* and those without a beginning that a packet shows: every gateway's answer is the same */
enum mss_clamp { MSS_KEEP = 0, MSS_AUTO = 1 /* what the hops of the path leave */ };
enum tunnel_kind { TUNNEL_TO_NODE = 1, TUNNEL_TO_VTI = 2 };

/* One word that every packet reads once, and what changes with no new revision. One element, mmap'ed by tunnel-gw. */
struct control {
	__u32 bank;		/* the live bank: 0 or 1 */
	__u32 live;		/* 0 until the first revision is published: then nothing is forwarded */
	__u32 route_gen;	/* bumped on any route, neighbour, link or address event and with every flip of the bank: cached next
				 * hops become stale; starts at 1 (with 0 nothing is cached) */
	__u32 rules_gen;	/* bumped when rules changed: records of revalidating chains report themselves once */
	__u64 hash_key;		/* secret of the selection hash, the same on all gateways */
	__u32 punt_rate;	/* punts per second and source address */
	__u32 punt_burst;	/* and how many at once */
	__u32 flows_gen;	/* bumped after records of `flows` were replaced or removed: what flow_front holds becomes stale */
	__u32 front_mask;	/* rows of flow_front less 1, that being a power of two; 0: it is not used */
	__u32 begin_rate;	/* flows per second and source address that the datapath decides; 0: all are tunnel-gw's */
	__u32 begin_burst;	/* and how many at once */
	__u32 ask_share;	/* of 65,536 flows that the datapath could decide, so many are asked about all the same, so that there are traces */
	__u32 rules_half[DT_BANKS]; /* for each bank the half of `rules` that holds its rule table, 1 or 2; 0: none */
	__u32 rules_lines;	/* lines of a half */
};

struct port {
	__u16 number;
	__u16 vrf;
	__u32 table;	/* Linux routing table of the VRF; where fib_by_table is 0: ifindex of the table's rule device */
	__u8 kind;	/* enum port_kind */
	__u8 flags;	/* enum port_flag */
	__u16 hop;	/* PORT_VTI_INNER: hop row whose header goes in front of what the kernel sends; PORT_LINK_INNER: with device and tags */
	__u32 vti_ifindex; /* PORT_VTI_INNER, PORT_VTI, PORT_SERVICE, VLAN ports: our side of the veth pair, where packets for the stack go */
	__u8 mac[6];	/* the device's own address: frames to any other are the stack's (which ignores them); 0 = not checked */
	__u16 node;	/* PORT_SERVICE: the node behind it */
};

struct tunnel {
	__u8 kind;	/* enum tunnel_kind */
	__u8 strict_return;
	__u16 node;
	__u16 vrf;
	__u16 port;	/* port number of the VTI */
	__u32 table;	/* as in struct port */
	__u32 deliver_ifindex; /* our side of the VTI's veth pair */
	__u8 inner_mac[6]; /* MAC of the operator's side, for what is delivered there */
	__u8 inner_l3;	/* 1: no inner Ethernet header */
	__u8 flags;	/* enum port_flag, for TUNNEL_TO_VTI; enum tunnel_flag */
};

/* At the start of header[] of hops that are no tunnel: the VLAN tag to push, and in front of it the service tag of QinQ; 0 = none. */
struct hop_tags { __u16 vlan; __u16 outer; };

/* How a packet is put on its way to one node, or into one VTI. */
struct hop {
	__u32 ifindex;		/* egress device */
	__u16 node;
	__u16 mtu;		/* largest inner L3 packet in bytes; 0 = row is not usable yet (no neighbour) */
	__u8 kind;		/* enum hop_kind */
	__u8 tunnel;		/* enum tunnel_proto */
	__u8 header_len;	/* bytes of header[] in use, up to and with the inner Ethernet header */
	__u8 outer_l3;		/* offset of the outer IP header in header[] */
	__u8 outer_ip6;		/* 1: outer IPv6 */
	__u8 inner_l3;		/* 1: header[] ends without an inner Ethernet header */
	__u16 outer_csum;	/* outer IPv4: folded, not inverted sum of the header with total length 0 and checksum 0, as stored words */
	__u8 dmac[6];		/* HOP_L2, HOP_L3 */
	__u8 smac[6];
	__u8 flags;		/* enum hop_flag; 0 and the shape of VXLAN over IPv4: the quick way */
	__u8 type_at;		/* offset in header[] of the EtherType that depends on the packet */
	__u8 patch_at;		/* offset of what depends on the flow, as flags say */
	__u8 pad;
	__u8 header[DT_MAX_HEADER];
};

struct path {
	__u16 chain;
	__u8 state;	/* enum path_state */
	__u8 nhops;
	__u16 node[DT_MAX_PATH_HOPS];	/* in forward order */
	__u16 hop[2 * DT_MAX_PATH_HOPS]; /* [dir * DT_MAX_PATH_HOPS + position in that direction] -> hop row */
	__u32 heir;		/* while it is down: the path of the chain by which its flows go on; 0 = the hash chooses */
};

struct chain {
	__u16 gen;		/* bumped when a path's state or the selection changed: records revalidate */
	__u8 on_failure;
	__u8 on_node_down;
	__u8 on_rule_change;
	__u8 affinity;
	__u8 valid;
	__u8 decides;		/* enum chain_decides */
	__u32 nslots;		/* 0: no path can be chosen */
	__u16 backup;		/* chain number, ON_FAILURE_BACKUP */
	__u16 mss;		/* largest TCP MSS of a SYN that is steered along the chain; or enum mss_clamp */
};

/* What the first fragment of a datagram said, for those behind it. */
struct datagram {
	struct flow_key key;
	__u64 at_ns;	/* CLOCK_MONOTONIC */
	__u8 known;	/* 0: later fragments wait for the first one */
	__u8 norm;
	__u8 quoted;
	__u8 pad[5];
};

struct selection {
	__u16 path[DT_MAX_SLOTS];
	__u16 pad[3];
};

/* A resolved way out of a VRF, cached in the flow; valid while gen equals control.route_gen. */
struct nexthop {
	__u32 gen;
	__u32 ifindex;
	__u8 dmac[6];
	__u8 smac[6];
	__u16 mtu;
	__u16 hop;	/* not 0: the way out is a VTI; this hop row's header goes in front; or enum egress_flag */
};

/* The decision word: path_id 23 bits, fwd_b 1, action 4, flags 4, chain generation 16, flow-programming generation 16. */
enum flow_word {
	WORD_PATH_MASK = 0x7fffff,
	WORD_FWD_B_SHIFT = 23,	/* set: the flow's initiator is end point b */
	WORD_ACTION_SHIFT = 24,
	WORD_ACTION_MASK = 15,
	WORD_FLAGS_SHIFT = 28,
	WORD_CHAIN_GEN_SHIFT = 32,
	WORD_FP_GEN_SHIFT = 48,
};

/* The four flag bits of the decision word. */
enum flow_word_flag {
	WORD_FLAG_UNRESOLVED = 1, /* FLOW_DROP: because the rule's chain does not exist (unresolvedPolicy) */
	WORD_FLAG_PROGRAMMED = 2, /* FLOW_ALLOW, FLOW_DROP: because a node of the path said so; the path stays in the word */
	WORD_FLAG_INSIDE = 4,	  /* forward packets come from the inside: they go to a pair's member b, or to the second arm */
};

struct flow {
	__u64 word;
	__u64 created_ns;	/* CLOCK_MONOTONIC */
	__u32 rule;		/* 0 = no rule matched */
	__u32 slot;		/* row of flow_counters; while pending: packets punted so far; 0: decided here, nothing but its opening seen */
	__u32 rules_gen;	/* control.rules_gen at the last classification */
	__u16 chain;		/* 0 = none: allow or drop */
	__u16 fwd_port;		/* port number by which the forward direction entered */
	__u16 entropy;		/* outer UDP source port of this flow, host order */
	__u16 pin_gen;		/* generation of the pin in Redis, as last known */
	__u32 alt_scope;	/* scope of the record of the same tuple that was last steered; 0 = none; written by the datapath */
	struct nexthop out[2];	/* [direction of the packet]; while slot is 0, out[1] holds what the counters will: ifindex is the number of
				 * packets, mtu the L3 bytes of each, and gen stays 0 */
};

/*
 * Rows of flow_counters for flows that the datapath decides: taken in the order in which they were given. tunnel-gw writes `given` and the
 * rows before it, the datapath `taken`; how many were taken tells tunnel-gw which, with no event that could be lost.
 */
struct free_slots {
	__u64 given;
	__u64 pad[7];
	__u64 taken;
	__u64 pad2[7];
	__u32 slot[DT_FREE_SLOTS];
};

/*
 * One cache line with what most packets need of an established IPv4 flow; all of it is also in `flows`, which alone decides. Written whole
 * by whoever meets no row, without a lock: check tells a row that two wrote at once, or that is half written, from a good one.
 */
struct flow_front {
	__u64 key[2];	/* addresses a and b, IPv4; the last eight bytes of struct flow_key */
	__u64 word;	/* as in struct flow */
	__u64 ids;	/* slot; rule << 32 */
	__u64 marks;	/* chain; entropy << 16; fwd_port << 32 */
	__u64 ways;	/* rows of `ways`, forward; reverse << 16; epoch << 32: sum of the generations in struct control */
	__u64 check;	/* over all of these, with the secret hash_key */
	__u64 pad;
};

/* A way out that flows share, while gen equals control.route_gen. Rows of even and of odd generations are apart: DT_MAX_WAYS each. */
struct way {
	struct nexthop to;
	__u32 busy;	/* 1: being written */
	__u32 pad;
};

_Static_assert(sizeof(struct flow_key) == 40, "flow_key");
_Static_assert(sizeof(struct port_key) == 12, "port_key");
_Static_assert(sizeof(struct tunnel_key) == 40, "tunnel_key");
_Static_assert(sizeof(struct own_key) == 20, "own_key");
_Static_assert(sizeof(struct source_key) == 20, "source_key");
_Static_assert(sizeof(struct datagram_key) == 40, "datagram_key");
_Static_assert(sizeof(struct datagram) == 56, "datagram");
_Static_assert(sizeof(struct control) == 64, "control");
_Static_assert(sizeof(struct port) == 24, "port");
_Static_assert(sizeof(struct tunnel) == 24, "tunnel");
_Static_assert(sizeof(struct hop) == 168, "hop");
_Static_assert(sizeof(struct hop_tags) == 4, "hop_tags");
_Static_assert(sizeof(struct path) == 56, "path");
_Static_assert(sizeof(struct chain) == 16, "chain");
_Static_assert(sizeof(struct selection) == 131080, "selection");
_Static_assert(sizeof(struct nexthop) == 24, "nexthop");
_Static_assert(sizeof(struct flow) == 88, "flow");
_Static_assert(sizeof(struct free_slots) == 128 + 4 * DT_FREE_SLOTS, "free_slots");
_Static_assert(sizeof(struct flow_front) == 64, "flow_front");
_Static_assert(sizeof(struct way) == 32, "way");

#include "abi-counters.h"
#include "abi-geneve.h"
#include "abi-events.h"
#include "abi-node.h"
#include "abi-rules.h"
#include "abi-snat.h"

#endif
