/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Part of the binary contract (abi.h): options of Geneve, as they are on the wire. */
#ifndef DETOUR_ABI_GENEVE_H
#define DETOUR_ABI_GENEVE_H

#include <linux/types.h>

/*
 * Our Geneve option (RFC 8926 3.5): what a packet has behind and before it on its path. A node returns it as it came; it never enters a
 * tenant's packet. Critical: who does not know it must not forward what is inside.
 */
enum geneve_option {
	GENEVE_CLASS_GWLB = 0x0108,
	GENEVE_GWLB_ENDPOINT = 1,	/* 8 bytes: whose packets these are; the VRF's number */
	GENEVE_GWLB_ATTACHMENT = 2,	/* 8 bytes: the node's number */
	GENEVE_GWLB_COOKIE = 3,		/* 4 bytes: the flow's */
	GENEVE_CLASS_PATH = 0xff44,	/* experimental range */
	GENEVE_TYPE_PATH = 0x81,
	GENEVE_PATH_VERSION = 1,
	GENEVE_HOP_BUDGET = 63,
};
enum geneve_path_flag { GENEVE_PATH_REVERSE = 1, GENEVE_PATH_OAM = 2, GENEVE_PATH_FLOW_PROGRAMMING = 4 };
struct geneve_path {
	__be16 class_be;
	__u8 type;
	__u8 len;		/* of what follows, in 4 bytes: 12 */
	__u8 version;
	__u8 flags;		/* enum geneve_path_flag */
	__u8 sidx;		/* hops still to do, this one included */
	__u8 budget;		/* hops that may still be done, whatever tables say */
	__be32 path_be;
	__be16 chain_be;
	__u8 action;		/* flow programming; 0 = none */
	__u8 scope;
	__be32 tenant_be;	/* VRF number */
	__u8 source[16];	/* end point that classified */
	__u8 dmac[6];		/* of the packet before the first hop; 0 = not kept */
	__u8 smac[6];
	__be32 cookie_be;	/* the flow's, as for gwlb */
};

_Static_assert(sizeof(struct geneve_path) == 52, "geneve_path");

#endif
