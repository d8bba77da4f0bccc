/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bench_reflect: a service node that costs next to nothing, so that the gateway is what is measured. It sends a VXLAN packet back to where
 * it came from: outer MACs, outer addresses and inner MACs change places (no checksum changes by that).
 *
 * It does the same to any frame of 64 bytes or more, so that its own cost can be measured with packets that are in no tunnel.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum offset { OUTER_MACS = 0, OUTER_SRC = 26, OUTER_DST = 30, INNER_MACS = 50, LEAST = 64, MAC = 6 };

static __always_inline void swap_macs(__u8 *at)
{
	__u8 dst[MAC];

	__builtin_memcpy(dst, at, MAC);
	__builtin_memcpy(at, at + MAC, MAC);
	__builtin_memcpy(at + MAC, dst, MAC);
}

SEC("xdp")
int bench_reflect(struct xdp_md *ctx)
{
	__u8 *data = (__u8 *)(long)ctx->data, *end = (__u8 *)(long)ctx->data_end;
	__u32 src;

	if (data + LEAST > end)
		return XDP_PASS;
	swap_macs(data + OUTER_MACS);
	swap_macs(data + INNER_MACS);
	__builtin_memcpy(&src, data + OUTER_SRC, sizeof(src));
	__builtin_memcpy(data + OUTER_SRC, data + OUTER_DST, sizeof(src));
	__builtin_memcpy(data + OUTER_DST, &src, sizeof(src));
	return XDP_TX;
}

/* Of any tunnel: what is inside stays as it is, which is all the same to the gateway. */
SEC("xdp")
int bench_reflect_outer(struct xdp_md *ctx)
{
	__u8 *data = (__u8 *)(long)ctx->data, *end = (__u8 *)(long)ctx->data_end;
	__u32 src;

	if (data + LEAST > end)
		return XDP_PASS;
	swap_macs(data + OUTER_MACS);
	__builtin_memcpy(&src, data + OUTER_SRC, sizeof(src));
	__builtin_memcpy(data + OUTER_SRC, data + OUTER_DST, sizeof(src));
	__builtin_memcpy(data + OUTER_DST, &src, sizeof(src));
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
