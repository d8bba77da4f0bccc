/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Declares basic.bpf.c's `table` with a wider value: a later version of the same map. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__uint(value_size, 16);
} table SEC(".maps");

SEC("xdp")
int look(struct xdp_md *ctx)
{
	__u32 key = 1;

	return bpf_map_lookup_elem(&table, &key) ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
