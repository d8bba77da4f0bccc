/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ends of the benchmarks' UDP flows, and a node between them that costs next to nothing.
 *
 *	bench_serve	at the server: counts, notes the longest silence between two packets, and answers while it is told to
 *	bench_absorb	at the client: counts the answers and drops them
 *	bench_node	at a node's underlay device: sends the flows' VXLAN packets back as bench_reflect does, everything else goes on to
 *			the node's kernel, its BFD among it
 *
 * Everything else (ARP, the lab's own traffic) goes up to the stack. Times may be a packet off when two CPUs receive at once.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum port { PORT = 8050, VXLAN_PORT = 4789 };
enum offset { VXLAN_BYTES = 8, MACS = 2 * ETH_ALEN };

/* Shared with bench/src/stack/ends.ts, field by field. */
struct ends {
	__u64 arrived;
	__u64 answers;
	__u64 first_ns;	    /* CLOCK_MONOTONIC; 0: none since it was cleared */
	__u64 last_ns;
	__u64 silence_ns;   /* the longest between two packets */
	__u64 silence_from; /* when that began */
	__u64 answering;    /* 1: packets are sent back */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ends);
} ends SEC(".maps");

static __always_inline struct udphdr *udp_behind(struct ethhdr *eth, void *end)
{
	struct iphdr *ip = (struct iphdr *)(eth + 1);
	struct udphdr *udp = (struct udphdr *)(ip + 1);

	if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
		return NULL;
	return udp;
}

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

static __always_inline void ends_note(struct ends *e)
{
	__u64 now = bpf_ktime_get_ns(), silence = now - e->last_ns;

	__sync_fetch_and_add(&e->arrived, 1);
	if (!e->first_ns)
		e->first_ns = now;
	else if ((__s64)silence > (__s64)e->silence_ns) {
		e->silence_ns = silence;
		e->silence_from = e->last_ns;
	}
	e->last_ns = now;
}

SEC("xdp")
int bench_serve(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct udphdr *udp = udp_behind(eth, (void *)(long)ctx->data_end);
	__u32 zero = 0, addr;
	struct ends *e = bpf_map_lookup_elem(&ends, &zero);
	struct iphdr *ip;
	__be16 port;

	if (!e || !udp || udp->dest != bpf_htons(PORT))
		return XDP_PASS;
	ends_note(e);
	if (!e->answering)
		return XDP_DROP;
	ip = (struct iphdr *)(eth + 1);
	swap_macs(eth);
	addr = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = addr;
	port = udp->source;
	udp->source = udp->dest;
	udp->dest = port;
	return XDP_TX;
}

SEC("xdp")
int bench_absorb(struct xdp_md *ctx)
{
	struct udphdr *udp = udp_behind((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	__u32 zero = 0;
	struct ends *e = bpf_map_lookup_elem(&ends, &zero);

	if (!e || !udp || udp->source != bpf_htons(PORT))
		return XDP_PASS;
	__sync_fetch_and_add(&e->answers, 1);
	return XDP_DROP;
}

SEC("xdp")
int bench_node(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, *inner;
	struct udphdr *udp = udp_behind(eth, end);
	struct iphdr *ip = (struct iphdr *)(eth + 1);
	__u32 addr;

	if (!udp || udp->dest != bpf_htons(VXLAN_PORT))
		return XDP_PASS;
	inner = (void *)(udp + 1) + VXLAN_BYTES;
	udp = udp_behind(inner, end);
	if (!udp || (udp->dest != bpf_htons(PORT) && udp->source != bpf_htons(PORT)))
		return XDP_PASS;
	swap_macs(eth);
	swap_macs(inner);
	addr = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = addr;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
