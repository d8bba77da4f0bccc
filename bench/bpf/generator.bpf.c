/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bench_generate: makes a stream of packets of many flows out of nothing, under BPF_PROG_TEST_RUN with live frames.
 *
 * Frames are used again by the kernel as they came back, so every run writes the whole frame anew from a template: UDP over IPv4, of which
 * flow i has source address base + i / 1024 and source port 1024 + i % 1024. Flows are visited in a scattered order (multiples of the
 * golden ratio), so that tables are not walked in the order in which they were filled. With VLANs, flow i has tag vlan + i % vlans. One CPU runs it at a time. It notes when it began
 * and ended, because the system call around it also waits for a grace period before and after.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum generator_size { FRAME = 64, FRAME_WORDS = FRAME / 8, PORTS_SHIFT = 10, PORT_BASE = 1024, TIMED = 64, TAG = 4 };

/* Shared with bench/src/steer/generator.ts, field by field. */
struct generator {
	__u32 ifindex;	 /* device that the frames leave by */
	__u32 flows;
	__u32 base;	 /* source address of flow 0, host order */
	__u32 sum;	 /* ones' complement sum of the template's IP header, source and checksum being 0 */
	__u64 sent;
	__u64 first_ns;	 /* CLOCK_MONOTONIC, of the first frame */
	__u64 last_ns;	 /* and of the latest whose number is a multiple of 64 */
	__u8 frame[FRAME];
	__u32 vlan;	 /* the first one */
	__u32 vlans;	 /* 0: the template has no tag */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct generator);
} generator SEC(".maps");

SEC("xdp")
int bench_generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 *to = data, *from;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct udphdr *udp;
	struct generator *g;
	__u32 zero = 0, i, src, sum;

	g = bpf_map_lookup_elem(&generator, &zero);
	if (!g || data + FRAME > end)
		return XDP_ABORTED;
	i = (__u64)((__u32)g->sent * 2654435769u) * g->flows >> 32;
	if (!(g->sent % TIMED)) {
		g->last_ns = bpf_ktime_get_ns();
		if (!g->sent)
			g->first_ns = g->last_ns;
	}
	g->sent++;
	from = (__u64 *)g->frame;
	to[0] = from[0], to[1] = from[1], to[2] = from[2], to[3] = from[3];
	to[4] = from[4], to[5] = from[5], to[6] = from[6], to[7] = from[7];
	if (g->vlans) {
		((__be16 *)ip)[0] = bpf_htons(g->vlan + i % g->vlans);
		ip = (void *)ip + TAG;
	}
	udp = (struct udphdr *)(ip + 1);
	src = g->base + (i >> PORTS_SHIFT);
	sum = g->sum + bpf_htons(src >> 16) + bpf_htons(src & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->saddr = bpf_htonl(src);
	ip->check = ~sum;
	udp->source = bpf_htons(PORT_BASE + (i & ((1 << PORTS_SHIFT) - 1)));
	return bpf_redirect(g->ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
