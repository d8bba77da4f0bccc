/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The datapath's tables. Rows of a banked table are at bank * MAX + number; who writes which table is said beside it. */
#ifndef DETOUR_MAPS_H
#define DETOUR_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

#define MAP_BEGIN struct {
#define MAP_END(name) } name SEC(".maps")

enum map_size {
	FLOWS_DEFAULT = 262144,	  /* the loader may set another size; flow_counters has as many rows as flows and embryos together */
	EMBRYOS_DEFAULT = 65536,
	FRONT_DEFAULT = 262144,	  /* a power of two; control.front_mask says the size in use */
	SOURCES = 65536,
	DATAGRAMS = 16384,
	PORT_KEYS = 16384,	  /* ports, and for each pair of each VRF two members and our sides of their veth pairs */
	OWN_KEYS = 16384,
	EGRESS_KEYS = 8192,
	SNAT_DEFAULT = 262144,	  /* bindings; the loader may set another size */
	EVENT_BYTES = 8 << 20,
	RULES_LINES_DEFAULT = 1 << 20, /* both halves */
};

/* ---- written by the gateway, read here --------------------------------------------------------------------------- */

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
MAP_END(control);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORT_KEYS);
	__type(key, struct port_key);
	__type(value, struct port);
MAP_END(ports);

/* The same rows by number, banked: an injected frame says its port by number, or the node that it came back from. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_BANKS * DT_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct port);
MAP_END(port_numbers);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_BANKS * DT_MAX_NODES);
	__type(key, __u32);
	__type(value, struct tunnel);
MAP_END(node_tunnels);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DT_MAX_TUNNELS);
	__type(key, struct tunnel_key);
	__type(value, struct tunnel);
MAP_END(tunnels);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OWN_KEYS);
	__type(key, struct own_key);
	__type(value, __u32);
MAP_END(own);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, EGRESS_KEYS);
	__type(key, struct egress_key);
	__type(value, __u32);
MAP_END(egress);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_BANKS * DT_MAX_HOPS);
	__type(key, __u32);
	__type(value, struct hop);
MAP_END(hops);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_BANKS * DT_MAX_PATHS);
	__type(key, __u32);
	__type(value, struct path);
MAP_END(paths);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_BANKS * DT_MAX_CHAINS);
	__type(key, __u32);
	__type(value, struct chain);
MAP_END(chains);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_BANKS * DT_MAX_CHAINS);
	__type(key, __u32);
	__type(value, struct selection);
MAP_END(selections);

/* The rule table (abi-rules.h), in two halves; the gateway writes the one that no bank in use names. Mmapable, which puts lines on boundaries. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RULES_LINES_DEFAULT);
	__type(key, __u32);
	__type(value, struct rules_line);
MAP_END(rules);

/* Not preallocated: memory for as many bindings as there are. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SNAT_DEFAULT);
	__type(key, struct flow_key);
	__type(value, struct snat_binding);
MAP_END(snat_bindings);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SNAT_DEFAULT);
	__type(key, struct snat_key);
	__type(value, struct snat_inner);
MAP_END(snat_inners);

/* ---- written by both: the gateway records decisions; here words are swapped, next hops cached, embryos made and promoted -- */

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS_DEFAULT);
	__type(key, struct flow_key);
	__type(value, struct flow);
MAP_END(flows);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, EMBRYOS_DEFAULT);
	__type(key, struct flow_key);
	__type(value, struct flow);
MAP_END(embryos);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct free_slots);
MAP_END(free_slots);

/* ---- written here, of no meaning to others ------------------------------------------------------------------------- */

/* Mmapable, which puts rows on line boundaries. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FRONT_DEFAULT);
	__type(key, __u32);
	__type(value, struct flow_front);
MAP_END(flow_front);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * DT_MAX_WAYS);
	__type(key, __u32);
	__type(value, struct way);
MAP_END(ways);

/* ---- written here, read by the gateway --------------------------------------------------------------------------- */

/* Not per CPU: one cache line a flow, however many CPUs there are; mmapable, which also puts rows on line boundaries. Added to atomically. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS_DEFAULT + EMBRYOS_DEFAULT);
	__type(key, __u32);
	__type(value, struct flow_counters);
MAP_END(flow_counters);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DT_MAX_NODES);
	__type(key, __u32);
	__type(value, struct node_counters);
MAP_END(node_counters);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DT_MAX_RULES);
	__type(key, __u32);
	__type(value, struct pair_counters);
MAP_END(rule_counters);

/* Row 0: packets on devices that have no port row. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DT_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct port_counters);
MAP_END(port_counters);

/* Frames handed to devices, whatever became of them there. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DT_SENT_ROWS);
	__type(key, __u32);
	__type(value, __u64);
MAP_END(sent);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROP_REASONS);
	__type(key, __u32);
	__type(value, __u64);
MAP_END(drops);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STATS);
	__type(key, __u32);
	__type(value, __u64);
MAP_END(stats);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DROP_REASONS);
	__type(key, __u32);
	__type(value, struct drop_example);
MAP_END(drop_examples);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENT_BYTES);
MAP_END(events);

/* ---- private ----------------------------------------------------------------------------------------------------- */

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SOURCES);
	__type(key, struct source_key);
	__type(value, struct punt_bucket);
MAP_END(sources);

/* Datagrams in fragments: a flood of them can push out nothing but each other. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DATAGRAMS);
	__type(key, struct datagram_key);
	__type(value, struct datagram);
MAP_END(datagrams);

/* When a hop row that is not ready was last reported, in nanoseconds. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_MAX_HOPS);
	__type(key, __u32);
	__type(value, __u64);
MAP_END(hop_reports);

/* Too large for the stack: an event with its packet, and a flow record to insert. */
struct scratch {
	struct event event;
	__u8 packet[DT_PUNT_BYTES];
	struct flow flow;
};

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
MAP_END(scratches);

/* A look-up in the rule table, while it lasts. */
struct rules_end {
	__u32 address[4]; /* host order */
	__u32 v4;
	__u32 port;
	__u32 count;	/* elements around the address */
	__u32 around[RULES_AROUND];
	__u32 pad;
};
struct rules_look {
	__u32 base;	/* row of `rules` where the half begins */
	__u32 lines;	/* of it */
	__u32 head[RULES_WORDS];
	__u32 lengths;	/* line of the VRF's prefix lengths */
	__u32 vrf;
	struct rules_end end[2]; /* [0] source, [1] destination */
	__u32 proto;
	__u32 ports;	/* 1: the protocol has ports */
	__u32 entry;	/* enum rules_entry_port: the other kind, beside RULES_ENTRY_ANY */
	__u32 entry_port; /* 0 when reversed */
	__u32 from, to;	/* elements of the pair in hand */
	__u32 port_lengths, kinds; /* what it has; kinds 0: no rules */
	__u32 rank;	/* of the best rule so far */
	__u32 rule;	/* 0: none yet */
	__u32 verdict;
};

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rules_look);
MAP_END(rules_looks);

/* ---- banked rows; NULL for a number that no row can have ----------------------------------------------------------- */

static __always_inline struct hop *hop_row(__u32 bank, __u32 number)
{
	__u32 row = bank * DT_MAX_HOPS + number;

	return number && number < DT_MAX_HOPS ? bpf_map_lookup_elem(&hops, &row) : NULL;
}

static __always_inline struct path *path_row(__u32 bank, __u32 number)
{
	__u32 row = bank * DT_MAX_PATHS + number;

	return number && number < DT_MAX_PATHS ? bpf_map_lookup_elem(&paths, &row) : NULL;
}

static __always_inline struct chain *chain_row(__u32 bank, __u32 number)
{
	__u32 row = bank * DT_MAX_CHAINS + number;

	return number && number < DT_MAX_CHAINS ? bpf_map_lookup_elem(&chains, &row) : NULL;
}

static __always_inline struct selection *selection_row(__u32 bank, __u32 number)
{
	__u32 row = bank * DT_MAX_CHAINS + number;

	return number && number < DT_MAX_CHAINS ? bpf_map_lookup_elem(&selections, &row) : NULL;
}

static __always_inline struct port *port_row(__u32 bank, __u32 number)
{
	__u32 row = bank * DT_MAX_PORTS + number;

	return number && number < DT_MAX_PORTS ? bpf_map_lookup_elem(&port_numbers, &row) : NULL;
}

static __always_inline struct tunnel *node_row(__u32 bank, __u32 number)
{
	__u32 row = bank * DT_MAX_NODES + number;

	return number && number < DT_MAX_NODES ? bpf_map_lookup_elem(&node_tunnels, &row) : NULL;
}

static __always_inline struct scratch *scratch_here(void)
{
	__u32 row = 0;

	return bpf_map_lookup_elem(&scratches, &row);
}

#endif
