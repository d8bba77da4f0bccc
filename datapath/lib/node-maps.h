/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tables of the program on a service node. */
#ifndef DETOUR_NODE_MAPS_H
#define DETOUR_NODE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

#define MAP_BEGIN struct {
#define MAP_END(name) } name SEC(".maps")

/* Written by the command. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node_settings);
MAP_END(node_setting);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NODE_MAX_GATEWAYS);
	__type(key, __u8[16]);
	__type(value, struct node_gateway);
MAP_END(node_gateways);

/* Written here: what to give back. When it is full the flow that was silent longest goes; its next packet from a gateway makes it anew. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768); /* the loader may set another size */
	__type(key, struct flow_key);
	__type(value, struct node_flow);
MAP_END(node_flows);

/* An empty record to insert, too large for the stack. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node_flow);
MAP_END(node_blank);

/* Read by the command. */
MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NODE_MAX_GATEWAYS);
	__type(key, __u32);
	__type(value, struct node_gateway_counters);
MAP_END(node_counters);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROP_REASONS);
	__type(key, __u32);
	__type(value, __u64);
MAP_END(node_drops);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node_stranger);
MAP_END(node_strangers);

static __always_inline struct node_settings *node_settings_row(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&node_setting, &zero);
}

static __always_inline struct node_gateway_counters *node_counters_row(__u32 number)
{
	return bpf_map_lookup_elem(&node_counters, &number);
}

/* Packets that end here, by reason. */
static __always_inline int node_drop(__u32 why)
{
	__u64 *n = bpf_map_lookup_elem(&node_drops, &why);

	if (n)
		(*n)++;
	return XDP_DROP;
}

#endif
