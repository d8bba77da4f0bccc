/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the tests of packages/bpf load: one map of each kind that the adapter treats specially, and small XDP programs. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} runs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__uint(key_size, 8);
	__uint(value_size, 4);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

const volatile __u32 verdict = XDP_PASS;
const volatile __u64 stamp;
const volatile __u8 label[4];

/* Returns `verdict`, counts its runs, notes where the packet came from. */
SEC("xdp")
int note(struct xdp_md *ctx)
{
	__u32 zero = 0, one = 1;
	__u32 *count = bpf_map_lookup_elem(&runs, &zero);
	__u64 *seen = bpf_map_lookup_elem(&shared, &zero), *mark = bpf_map_lookup_elem(&shared, &one);

	if (count)
		*count += 1;
	if (seen)
		*seen = ((__u64)ctx->ingress_ifindex << 32) | ctx->rx_queue_index;
	if (mark)
		*mark = stamp + label[0];
	return verdict;
}

/* Swaps the first two bytes of the frame. */
SEC("xdp")
int swap(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, first;

	if (data + 2 > end)
		return XDP_ABORTED;
	first = data[0];
	data[0] = data[1];
	data[1] = first;
	return XDP_TX;
}

struct record {
	__u32 seq;
	__u32 len;
	__u8 fill[24];
};

/* Reports frame[0] records in one run: seq, the frame's length, a fill; every third of frame[1] != 0 is discarded. */
SEC("xdp")
int report(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 lost = 0, n, i;

	if (data + 14 > end)
		return XDP_ABORTED;
	n = data[0];
	for (i = 0; i < 255 && i < n; i++) {
		struct record *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);
		if (!r) {
			lost++;
			continue;
		}
		r->seq = i;
		r->len = end - data;
		__builtin_memset(r->fill, (__u8)i, sizeof(r->fill));
		if (data[1] && i % 3 == 2)
			bpf_ringbuf_discard(r, 0);
		else
			bpf_ringbuf_submit(r, 0);
	}
	return lost;
}

char _license[] SEC("license") = "Dual BSD/GPL";
