/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maps whose values have fields of the same names at other places, for btf.test.ts. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

typedef __u32 number;
struct way { number id; __u16 mtu; __u16 pad; };

struct older_row {
	__u64 id;
	const __u32 count;
	__be16 port_be;
	__u16 gone;
	struct way way[2];
};

struct newer_row {
	__u32 fresh;
	__be16 port_be;
	__u16 pad;
	__u64 count;
	struct way way[3];
	__u64 id;
};

struct other_row { __u64 way; };

#define MAP(name, row) \
	struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct row); } name SEC(".maps")

MAP(older, older_row);
MAP(newer, newer_row);
MAP(other, other_row);

char LICENSE[] SEC("license") = "Dual BSD/GPL";
