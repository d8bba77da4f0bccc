/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Checksums over the whole rest of a frame (RFC 1071), for GRE and outer UDP headers that have one. */
#ifndef DETOUR_CHECKSUM_H
#define DETOUR_CHECKSUM_H

#include "packet.h"
#include "csum.h"

enum checksum_limit {
	CHECKSUM_STEP = 256,
	CHECKSUM_STEPS = 36,	 /* 9,216 bytes */
	CHECKSUM_NONE = 0x10000, /* no sum: longer than that, or not all there */
};

#define CHECKSUM_TAIL(bytes)                                                                                                       \
	if (len & (bytes)) {                                                                                                       \
		part = data + (at & 0x3fff);                                                                                       \
		if (part + (bytes) > end)                                                                                          \
			return CHECKSUM_NONE;                                                                                      \
		sum = bpf_csum_diff(NULL, 0, part, bytes, (__u32)sum);                                                             \
		at += (bytes);                                                                                                     \
	}

/* Folded sum of stored words of len bytes from `at` on, both even but for the last byte, or CHECKSUM_NONE. */
RARE __u32 checksum_range(struct xdp_md *ctx, __u32 at, __u32 len, __u32 start)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx), *part;
	__s64 sum = start;
	__u32 i;

	for (i = 0; i < CHECKSUM_STEPS && len >= CHECKSUM_STEP; i++) {
		part = data + (at & 0x3fff);
		if (part + CHECKSUM_STEP > end)
			return CHECKSUM_NONE;
		sum = bpf_csum_diff(NULL, 0, part, CHECKSUM_STEP, (__u32)sum);
		at += CHECKSUM_STEP;
		len -= CHECKSUM_STEP;
	}
	if (len >= CHECKSUM_STEP)
		return CHECKSUM_NONE;
	CHECKSUM_TAIL(128)
	CHECKSUM_TAIL(64)
	CHECKSUM_TAIL(32)
	CHECKSUM_TAIL(16)
	CHECKSUM_TAIL(8)
	CHECKSUM_TAIL(4)
	sum = (__u32)sum;
	if (len & 2) {
		part = data + (at & 0x3fff);
		if (part + 2 > end)
			return CHECKSUM_NONE;
		sum += *(__u16 *)part;
		at += 2;
	}
	if (len & 1) {
		part = data + (at & 0x3fff);
		if (part + 1 > end)
			return CHECKSUM_NONE;
		sum += bpf_htons((__u16)*(__u8 *)part << 8);
	}
	return csum_fold(sum);
}

/* Sum of the pseudo-header of a UDP datagram of len bytes behind the IP header at l3 (RFC 768, RFC 8200 8.1), folded; or CHECKSUM_NONE. */
RARE __u32 checksum_pseudo(struct xdp_md *ctx, __u32 l3, __u32 len, __u32 ip6)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	void *ip = data + (l3 & 0x1ff);
	__s64 sum = bpf_htons(IPPROTO_UDP) + (__u32)bpf_htons(len);

	if (ip6) {
		if (ip + sizeof(struct ipv6hdr) > end)
			return CHECKSUM_NONE;
		sum = bpf_csum_diff(NULL, 0, ip + offsetof(struct ipv6hdr, saddr), 32, (__u32)sum);
	} else {
		if (ip + sizeof(struct iphdr) > end)
			return CHECKSUM_NONE;
		sum = bpf_csum_diff(NULL, 0, ip + offsetof(struct iphdr, saddr), 8, (__u32)sum);
	}
	return csum_fold((__u32)sum);
}

#endif
