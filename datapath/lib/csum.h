/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sums of one header (RFC 1071). */
#ifndef DETOUR_CSUM_H
#define DETOUR_CSUM_H

#include <linux/types.h>

/* 0xffff when the header is intact (RFC 1071). */
static __always_inline __u32 csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u64 csum_words(const void *header)
{
	const __u32 *w = header;

	return (__u64)w[0] + w[1] + w[2] + w[3] + w[4];
}

#endif
