/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Part of the binary contract (abi.h): what is counted, and why packets are dropped. Included by abi.h, whose keys it uses. */
#ifndef DETOUR_ABI_COUNTERS_H
#define DETOUR_ABI_COUNTERS_H

enum flow_seen { SEEN_FIN_FWD = 1, SEEN_FIN_REV = 2, SEEN_RST_FWD = 4, SEEN_REPLY = 8, SEEN_SYN = 16, SEEN_RST_REV = 32,
		 SEEN_RST = 36 /* of either side: of the one that has sent nothing else since */ };
struct flow_counters {
	__u64 packets[2];	/* [0] forward, [1] reverse; counted when the packet enters by a classifying port */
	__u64 bytes[2];		/* L3 bytes */
	__u64 last_ns;
	__u32 seen;		/* enum flow_seen */
	__u32 reset_ms[2];	/* when the end that sends forward, reverse, was last told by RST that the node is down; CLOCK_MONOTONIC, 0 = never */
	__u32 next_seq[2];	/* of a sampled TCP flow: the sequence number after the highest that was sent forward, reverse; 0 = none was seen */
	__u32 pad;		/* to a cache line */
};
struct node_counters {
	__u64 to_packets, to_bytes, from_packets, from_bytes;
	__u64 segments;		/* that entered with data, of sampled TCP flows through this node */
	__u64 segments_again;	/* those of them that had been sent before */
};
struct pair_counters { __u64 packets, bytes; };
struct port_counters { __u64 rx_packets, rx_bytes, forwarded, passed, punted, dropped, rule_lookups, pad; };

/* Why a packet was dropped; names are what `detour get drops` prints, in lower case without the prefix. */
enum drop_reason {
	DROP_NONE = 0,
	DROP_MALFORMED = 1,	/* truncated, wrong length, wrong version, wrong header checksum */
	DROP_NOT_LIVE = 2,	/* no revision is live yet */
	DROP_NO_TABLE = 3,	/* a live table lacks a row that another row names */
	DROP_RULE = 4,		/* a rule says drop */
	DROP_UNRESOLVED = 5,	/* unresolvedPolicy: the rule's chain does not exist */
	DROP_NODE_DOWN = 6,	/* no healthy path and onFailure drop, or onNodeDown keep */
	DROP_NO_ROUTE = 7,
	DROP_ARP_FAIL = 8,	/* the next hop's MAC could not be resolved */
	DROP_TTL = 9,
	DROP_TOO_BIG = 10,
	DROP_FRAGMENT = 11,
	DROP_TUNNEL_UNKNOWN = 12, /* tunnel packet for us from an unknown end point or with an unknown VNI */
	DROP_TUNNEL_HEADER = 13, /* tunnel header with bits that we must not accept */
	DROP_STRICT_RETURN = 14, /* a node returned a packet whose flow was never sent to it */
	DROP_SERVICE_LOOP = 15,
	DROP_PUNT_FULL = 16,
	DROP_CONN_FULL = 17,
	DROP_HOP_NOT_READY = 18, /* the way to the node is not resolved */
	DROP_UNSUPPORTED = 19,	/* EtherType or extension header that may not pass a classifying port */
	DROP_INJECT = 20,	/* a frame at the inject port without a valid header */
	DROP_DECISION_TIMEOUT = 21, /* no decision could be made for a held packet */
	DROP_ADJUST = 22,	/* the kernel refused head-room for the outer header */
	DROP_SPOOF = 23,	/* source address is one of our own */
	DROP_TUNNEL_OPTION = 24, /* a critical Geneve option that is not known, or not on this tunnel */
	DROP_TUNNEL_CHECKSUM = 25, /* the checksum of an outer UDP or GRE header is wrong */
	DROP_COOKIE = 26,	/* a node returned a packet without its flow's cookie, or with another flow's */
	DROP_FP_DROP = 27,	/* flow programming: a node of its path wants none of its packets any more */
	DROP_SOURCE_LIMIT = 28,	/* more new flows a second than one source address may begin */
	DROP_SNAT_UNKNOWN = 29,	/* to a SNAT address, and no flow has that binding */
	DROP_SNAT_FULL = 30,	/* no port of the SNAT address is free towards this remote end */
	DROP_REASONS = 31,
};

/* What else is counted, beside drops. */
enum stat { STAT_RX = 0, STAT_FORWARDED = 1, STAT_PASSED = 2, STAT_PUNTED = 3, STAT_BYPASSED = 4, STAT_REPINNED = 5, STAT_REVALIDATED = 6,
	    STAT_PROMOTED = 7, STAT_PROMOTE_FULL = 8, STAT_FIB_LOOKUP = 9, STAT_EVENT_LOST = 10, STAT_DROPPED = 11,
	    STAT_TTL_EXPIRED = 12, /* of the passed ones: so that the kernel answers with time exceeded */
	    STAT_FP_SKIPPED = 13, /* of the forwarded ones: without the service of their chain, because a node of it said so */
	    STAT_FRAGMENT_FOLLOWED = 14, /* later fragments that took the way of their first */
	    STAT_FRAGMENT_HELD = 15, /* of the punted ones: fragments that came before their first */
	    STAT_MSS_CLAMPED = 16,
	    STAT_DECIDED = 17, /* flows that were decided here, with nobody asked */
	    STAT_UNCOUNTED = 18, /* packets of a flow that found no counter row free */
	    STAT_RULES_ASKED = 19, /* look-ups in the rule table that only user space can answer */
	    STAT_RESET = 20, /* of the dropped ones, as node_down: of TCP connections of which one or both ends are told by RST */
	    STATS = 21 };

struct drop_example {
	struct flow_key key;
	__u64 at_ns;
	__u16 port;
	__u16 len;
	__u32 ifindex;
};

struct punt_bucket { __u64 at_ns; __u64 tokens; /* in thousandths of a packet */ };

_Static_assert(sizeof(struct flow_counters) == 64, "flow_counters");
_Static_assert(sizeof(struct port_counters) == 64, "port_counters");
_Static_assert(sizeof(struct drop_example) == 56, "drop_example");

#endif
