/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program that every verifier refuses: it reads the frame without looking at its end. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int reads_past_the_end(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;

	return data[0];
}

char _license[] SEC("license") = "Dual BSD/GPL";
