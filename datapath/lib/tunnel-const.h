/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Numbers of the tunnels' headers (RFC 7348, RFC 8926, RFC 2784, RFC 2890). */
#ifndef DETOUR_TUNNEL_CONST_H
#define DETOUR_TUNNEL_CONST_H

enum vxlan_const {
	VXLAN_PORT = 4789,
	VXLAN_FLAG_I = 0x08,
	VXLAN_HEADER = 8,
};

enum geneve_const {
	GENEVE_PORT = 6081,
	GENEVE_HEADER = 8,
	GENEVE_OPTIONS = 63, /* of 4 bytes, as many as fit */
	GENEVE_FLAG_O = 0x80,
	GENEVE_OPTION_HEADER = 4,
	GENEVE_OPTION_CRITICAL = 0x80,
};

enum gre_const {
	GRE_CHECKSUM = 0x8000,
	GRE_KEY = 0x2000,
	GRE_NONE_OF_OURS = 0x5c07, /* routing, sequence number, strict route, recursion's first bit, version */
};

enum inner_type { INNER_ETHERNET = 0x6558 /* in Geneve and GRE headers: an Ethernet frame (RFC 8926 3.4) */ };

#endif
