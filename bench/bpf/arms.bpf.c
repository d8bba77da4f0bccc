/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Service nodes that packets reach by MAC address, costing next to nothing, so that the gateway is what is measured.
 *
 *	bench_bump	a bump in the wire: a frame that comes by one member leaves by the other, as it is
 *	bench_router	a router: the frame gets the MACs of its way back, and leaves by the other arm, or by its only one
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

enum arms_limit { ARMS = 4096 };

/* What becomes of a frame that came by the device of this ifindex. */
struct arm {
	__u32 out;		  /* ifindex of the arm that it leaves by */
	__u8 macs[2 * ETH_ALEN];  /* destination, source */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ARMS);
	__type(key, __u32);
	__type(value, struct arm);
} arms SEC(".maps");

SEC("xdp")
int bench_bump(struct xdp_md *ctx)
{
	__u32 in = ctx->ingress_ifindex;
	struct arm *arm = bpf_map_lookup_elem(&arms, &in);

	return arm ? bpf_redirect(arm->out, 0) : XDP_ABORTED;
}

SEC("xdp")
int bench_router(struct xdp_md *ctx)
{
	__u8 *data = (__u8 *)(long)ctx->data, *end = (__u8 *)(long)ctx->data_end;
	__u32 in = ctx->ingress_ifindex;
	struct arm *arm = bpf_map_lookup_elem(&arms, &in);

	if (!arm || data + ETH_HLEN > end)
		return XDP_ABORTED;
	__builtin_memcpy(data, arm->macs, sizeof(arm->macs));
	return arm->out == in ? XDP_TX : bpf_redirect(arm->out, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
