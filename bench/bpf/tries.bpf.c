/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tries_probe: a rule look-up as it would be with the kernel's LPM tries: one for sources, one for destinations, each says a class, and what a pair of
 * classes has for a protocol and a port is one look-up in a hash. It is right for rules of which the longest source prefix decides; what other
 * tables would need beside it (the prefixes around the longest one, ranges of ports) is not here. Packets are those of one map, rules go into another; words
 * of the frame behind its Ethernet header, on a boundary: how many, and whether they are looked up.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum tries_limit { PACKETS = 65536, PREFIXES = 131072, WORDS_AT = 16 };

/* Shared with bench/src/tables/tries-probe.ts, field by field. */
struct trie_packet {
	__u32 vrf;
	__u8 src[16];	/* IPv4: the first four bytes */
	__u8 dst[16];
	__u16 dport;
	__u8 proto;
	__u8 v6;
};
struct trie_key4 {
	__u32 bits;	/* with those of the VRF */
	__u32 vrf;
	__u8 addr[4];
};
struct trie_key6 {
	__u32 bits;
	__u32 vrf;
	__u8 addr[16];
};
struct pair_key {
	__u32 src, dst;	/* classes */
	__u16 dport;
	__u8 proto;
	__u8 pad;
};

#define TRIE(name, key_type)                              \
	struct {                                          \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);      \
		__uint(map_flags, BPF_F_NO_PREALLOC);     \
		__uint(max_entries, PREFIXES);            \
		__type(key, key_type);                    \
		__type(value, __u32);                     \
	} name SEC(".maps")

TRIE(sources4, struct trie_key4);
TRIE(destinations4, struct trie_key4);
TRIE(sources6, struct trie_key6);
TRIE(destinations6, struct trie_key6);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PREFIXES);
	__type(key, struct pair_key);
	__type(value, __u32);
} pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PACKETS);
	__type(key, __u32);
	__type(value, struct trie_packet);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PACKETS);
	__type(key, __u32);
	__type(value, __u32);
} rules SEC(".maps");

static __always_inline __u32 *class4(void *trie, __u32 vrf, const __u8 *addr)
{
	struct trie_key4 key = { .bits = 64, .vrf = vrf };

	__builtin_memcpy(key.addr, addr, sizeof(key.addr));
	return bpf_map_lookup_elem(trie, &key);
}

static __always_inline __u32 *class6(void *trie, __u32 vrf, const __u8 *addr)
{
	struct trie_key6 key = { .bits = 160, .vrf = vrf };

	__builtin_memcpy(key.addr, addr, sizeof(key.addr));
	return bpf_map_lookup_elem(trie, &key);
}

static long probe_one(__u32 index, __u32 *lookups)
{
	struct trie_packet *p = bpf_map_lookup_elem(&packets, &index);
	__u32 *told = bpf_map_lookup_elem(&rules, &index), *src, *dst, *rule;
	struct pair_key key = {};

	if (!p || !told)
		return 1;
	if (!*lookups)
		return 0;
	*told = 0;
	src = p->v6 ? class6(&sources6, p->vrf, p->src) : class4(&sources4, p->vrf, p->src);
	dst = p->v6 ? class6(&destinations6, p->vrf, p->dst) : class4(&destinations4, p->vrf, p->dst);
	if (!src || !dst)
		return 0;
	key.src = *src;
	key.dst = *dst;
	key.dport = p->dport;
	key.proto = p->proto;
	rule = bpf_map_lookup_elem(&pairs, &key);
	if (rule)
		*told = *rule;
	return 0;
}

SEC("xdp")
int tries_probe(struct xdp_md *ctx)
{
	__u32 *words = (void *)(long)ctx->data + WORDS_AT, lookups;

	if ((void *)(words + 2) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	lookups = words[1];
	bpf_loop(words[0], probe_one, &lookups, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
