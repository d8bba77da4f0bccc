/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Part of the binary contract (abi.h): the rule table as packets are looked up in it. Included by abi.h.
 *
 * The image is lines of 16 words. The map `rules` has two halves of control.rules_lines lines each; control.rules_half says for each bank which of
 * them holds its rules (1 or 2; 0: none does). Lines are numbered from the start of their half; line 0 is the head, and as a reference means none.
 *
 * An address has elements around it: for each prefix of a rule that contains it one (or those of the lists in which the prefix is), and the VRF's own
 * number, which means any. A pair of elements, one around the source and one around the destination, has leaves: one for each condition
 * on protocol, port of entry and ports under which rules are, port ranges cut into prefixes of the port number. A pair of few rules has a list of them
 * instead, best first. The best rule of all leaves and lists that the packet meets is the one that decides: lowest rank, then lowest number; the rank is
 * the rule's priority, inverted.
 *
 * Prefixes, pairs and leaves are hash tables over lines: word 0 of a line counts the entries that belong in it or before and stand
 * behind it, entries follow. An entry stands at most RULES_PROBES - 1 lines behind the one that its key's hash says.
 */
#ifndef DETOUR_ABI_RULES_H
#define DETOUR_ABI_RULES_H

#include <linux/types.h>

enum rules_limit {
	RULES_WORDS = 16,	/* of a line */
	RULES_PROBES = 8,	/* lines that may hold an entry */
	RULES_AROUND = 16,	/* elements around an address; with more, user space is asked */
	RULES_CHAIN = 16,	/* lines of one list of conditions; with more, user space is asked */
	RULES_ELEMENTS = 16777216, /* numbers of elements are lower; up to 65535 they are VRFs, and mean any address */
};

/* Words of the head. A hash table of n lines is followed by RULES_PROBES - 1 more, so that none goes round. */
enum rules_head {
	RULES_COUNT = 0,	/* rules in the image */
	RULES_VRFS_AT = 1,	/* line of the index of VRFs: one word each, the line of the VRF's lengths */
	RULES_VRFS = 2,		/* words of it */
	RULES_PREFIX4_AT = 4,
	RULES_PREFIX4_LINES = 5,
	RULES_PREFIX6_AT = 6,
	RULES_PREFIX6_LINES = 7,
	RULES_PAIRS_AT = 8,
	RULES_PAIRS_LINES = 9,
	RULES_LEAVES_AT = 10,
	RULES_LEAVES_LINES = 11,
};

/*
 * Lengths of the prefixes that a VRF's rules have, as bytes: how many, then each. Lines of a VRF: of sources IPv4, of destinations IPv4, of sources
 * IPv6 (three lines), of destinations IPv6.
 */
enum rules_lengths { RULES_LENGTHS6 = 2, RULES_LENGTHS6_LINES = 3, RULES_LENGTHS_LINES = 8, RULES_LENGTHS_MAX = 129 };

/* Entries, in words. Those of prefixes: address (1 or 4 words), place, value. Host order. */
enum rules_entry {
	RULES_PREFIX4_WORDS = 3,
	RULES_PREFIX4_ENTRIES = 5,
	RULES_PREFIX6_WORDS = 6,
	RULES_PREFIX6_ENTRIES = 2,
	RULES_PLACE_VRF_SHIFT = 16,
	RULES_PLACE_LENGTH_SHIFT = 8, /* bits 0..7: 0 source, 1 destination */
	RULES_VALUE_LIST = 0x40000000, /* the value is a line with elements; else it is the element */

	RULES_PAIR_WORDS = 5,	/* element of the source, of the destination, best rank, lengths of port prefixes, kinds */
	RULES_PAIR_ENTRIES = 3,
	RULES_PAIR_RANK = 2,
	RULES_PAIR_LENGTHS = 3,	/* bit n - 1: destination ports by their first n bits; bit 15 + n: source ports */
	RULES_PAIR_SHORT = 0x40000, /* instead of kinds: the pair has no leaves, but a list of rules, whose line stands in place of the lengths */
	RULES_PAIR_KINDS = 4,	/* bit ((class * 3) + entry) * 2 + protocol; class 0 no ports, 1 destination, 2 source */

	RULES_LEAF_WORDS = 7,	/* element of the source and kind, element of the destination, condition, rank, rule, verdict, list */
	RULES_LEAF_ENTRIES = 2,
	RULES_LEAF_KIND_SHIFT = 24, /* kind: ((length * 3) + entry) * 2 + protocol; length 0 no ports, n destination's, 16 + n source's */
	RULES_LEAF_RANK = 3,
	RULES_LEAF_RULE = 4,
	RULES_LEAF_VERDICT = 5,
	RULES_LEAF_LIST = 6,	/* not 0: line of a list of conditions, of which the leaf says the best rule */
};

/* What kinds say of the port of entry. The condition of a leaf: protocol << 24, port of entry << 16, first bits of the port. */
enum rules_entry_port { RULES_ENTRY_ANY = 0, RULES_ENTRY_PORT = 1, RULES_ENTRY_REVERSED = 2 /* rules with appliedTo, for reversed tuples */ };

/* Lines of a list: how many in this line, the next line, then: elements; or conditions, best first. */
enum rules_list {
	RULES_LIST_COUNT = 0,
	RULES_LIST_NEXT = 1,
	RULES_LIST_AT = 2,
	RULES_LIST_ELEMENTS = 14,
	RULES_CONDITION_WORDS = 4, /* rank, rule, verdict, first source port << 16 | last */
	RULES_LIST_CONDITIONS = 3,
	RULES_SHORT_WORDS = 6,	/* rank, rule, verdict, match, first destination port << 16 | last, the same of source ports */
	RULES_LIST_SHORTS = 2,
	RULES_SHORT_LINES = 6,	/* of such a list */
};

/* A match: protocol, port of entry << 8, and which of them count. */
enum rules_match { RULES_MATCH_PROTO = 0x10000, RULES_MATCH_ENTRY = 0x20000, RULES_MATCH_PORTS = 0x40000 };

/* A verdict: chain, and above it enum rule_action << 16, enum rule_flag << 24. */
enum rules_verdict { RULES_ACTION_SHIFT = 16, RULES_FLAGS_SHIFT = 24 };

enum rule_action { RULE_NONE = 0, RULE_ALLOW = 1, RULE_DROP = 2, RULE_CHAIN = 3, RULE_UNRESOLVED = 4 };
enum rule_flag { RULE_DROP_UNRESOLVED = 1 };

/* Why the datapath cannot say which rule decides. */
enum rules_why { RULES_KNOWN = 0, RULES_NO_IMAGE = 1, RULES_TOO_MANY = 2 /* elements around an address, or conditions in a list */, RULES_BROKEN = 3 };

struct rules_line { __u32 word[RULES_WORDS]; };

/* The rule that decides a tuple. */
struct rule_answer {
	__u32 rule;	/* 0: none matches */
	__u16 chain;
	__u8 action;	/* enum rule_action */
	__u8 flags;	/* enum rule_flag */
};

/* What rules_probe.bpf.c answers: a tuple as a packet would bring it. */
struct rule_question {
	struct flow_key key;
	__u32 norm;
	__u32 port;	/* of entry */
	__u32 reversed;
	__u32 bank;
};
struct rule_reply {
	struct rule_answer answer;
	__u32 why;	/* enum rules_why */
	__u32 pad;
};

_Static_assert(sizeof(struct rules_line) == 64, "rules_line");
_Static_assert(sizeof(struct rule_answer) == 8, "rule_answer");
_Static_assert(sizeof(struct rule_question) == 56, "rule_question");
_Static_assert(sizeof(struct rule_reply) == 16, "rule_reply");

#endif
