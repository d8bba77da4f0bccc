/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Part of the binary contract (abi.h): source addresses given to what leaves by a port with SNAT. IPv4 alone. Included by abi.h. */
#ifndef DETOUR_ABI_SNAT_H
#define DETOUR_ABI_SNAT_H

/* Values of the table `own`. */
enum own_flag { OWN_LOCAL = 1,	/* the local stack has it */
		OWN_SNAT = 2,	/* flows have it as their source outside */
		OWN_SNAT_SHARED = 4 }; /* flows of other gateways too */

/* Of a row of the table `egress`, and so of nexthop.hop: a way out by a port with SNAT. */
enum egress_flag { EGRESS_SNAT = 0x8000,
		   EGRESS_PORT = 0xff,	  /* with EGRESS_SNAT: the port's number */
		   EGRESS_HOP = 0x7f00 }; /* with EGRESS_SNAT: any of these bits set, hop row (value less the flag), of a VLAN port */

/* The source that a flow has outside; key: struct flow_key of scope 0. Written by tunnel-gw, but for last_ns. */
struct snat_binding {
	__be32 addr_be;
	__be16 port_be;	 /* TCP, UDP: source port; ICMP echo: identifier; 0: as it is */
	__u16 out_port; /* number of the port that it was made for */
	__u8 inner_is_b; /* which end point of the flow is inside */
	__u8 scope;	 /* of the flow's record */
	__u16 pad;
	__u32 pad2;
	__u64 last_ns;	 /* CLOCK_MONOTONIC, to a second: the last packet that left with it */
};

/* The same from outside: who is inside, of what comes from a remote end to a SNAT address. */
struct snat_key {
	__be32 addr_be;
	__be32 remote_be;
	__be16 port_be;
	__be16 remote_port_be; /* 0 for protocols without ports, and ICMP */
	__u16 vrf;
	__u8 proto;
	__u8 pad;
};
struct snat_inner {
	__be32 addr_be;
	__be16 port_be;
	__u16 pad;
};

_Static_assert(sizeof(struct snat_binding) == 24, "snat_binding");
_Static_assert(sizeof(struct snat_key) == 16, "snat_key");
_Static_assert(sizeof(struct snat_inner) == 8, "snat_inner");

#endif
