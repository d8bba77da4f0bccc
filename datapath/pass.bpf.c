/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * detour_pass: for the far sides of veth pairs that are redirected into (the operator's side of a VTI, the peer of an inject device).
 * A veth takes redirected frames only if its peer receives through NAPI, which any XDP program on the peer brings about.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int detour_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
