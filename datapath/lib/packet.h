/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the steps know about the packet in hand, and how a step answers.
 *
 * A step returns 0 to go on, an enum drop_reason to drop, or an enum packet_end. Nothing is stripped from the packet until it leaves:
 * l2 is the offset of the Ethernet header that counts (the inner one of a tunnel, the one behind an inject header).
 */
#ifndef DETOUR_PACKET_H
#define DETOUR_PACKET_H

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include "abi.h"

enum packet_end {
	PACKET_PASS = 64,   /* to the local stack: up, or into the VTI that it came through */
	PACKET_FORWARD = 65, /* redirect to packet.out */
	PACKET_PUNT = 66,   /* tunnel-gw holds it */
	PACKET_LEAVE = 67,  /* not an end: goes to its destination without (more) service */
	PACKET_STEER = 68,  /* not an end: goes to the node at packet.position of packet.path */
	PACKET_ASK = 70,     /* not an end: no decision is known */
	PACKET_FRAME = 69,  /* not an end: the hop is no tunnel, its frame is made by arm_send or vlan_leave */
};

/* Beside enum tunnel_flag, in the same byte: struct packet is as large as the stack of kernel 6.1 lets it be. */
enum packet_asked { FLOW_SAMPLED = 128, /* its flow could be decided here, and is asked about for the sake of a trace */
		    PACKET_SNAT = 64, /* it entered by a port with SNAT */
		    FLOW_AGAIN = 32 /* the opening of its flow was not answered here */ };

enum ip_bits { ECN_MASK = 3 };
enum packet_fragment { FRAGMENT_NONE = 0, FRAGMENT_FIRST = 1, FRAGMENT_LATER = 2 };

/* No pointers in here: the rarely taken steps are global functions, verified on their own, and see it as plain memory. */
struct packet {
	struct flow_key key;
	__u32 l2;
	__u32 l4;	/* offset of the transport header */
	__u32 frame;	/* bytes from l2 to the frame's end */
	__u32 ip_len;	/* L3 bytes as the IP header says */
	__u32 table;	/* the VRF's routing table, as struct port has it */
	__u32 deliver;	/* device through which the local stack gets it; 0 = the one it came in by */
	__u32 out;	/* device to redirect to */
	__u32 slot;	/* of the flow */
	__u32 rule;
	__u32 path;	/* number of the path that it is steered along */
	__u32 epoch;	/* sum of the generations in struct control, as the packet came */
	__u32 way;	/* row of `ways` by which it leaves; 0 = not known */
	__u32 datagram;	/* identification, of a fragment */
	__u32 cookie;	/* as brought */
	__u8 inner_mac[6]; /* the VTI's, for what the local stack gets; here, for its alignment */
	__u16 entropy;	/* outer UDP source port of its flow */
	__u16 port;	/* number by which it entered, as rules and flows see it */
	__u16 count_port; /* number under which it is counted: differs for injected ones */
	__u16 node;	/* that returned it; 0 = none did */
	__u8 bank;
	__u8 position;	/* on its path, in its direction */
	__u8 tunnelled;	/* came through a tunnel */
	__u8 classify;
	__u8 strict;
	__u8 injected;
	__u8 v6;
	__u8 norm;	/* 1: its source is end point b */
	__u8 dir;	/* 0 forward, 1 reverse; known with the flow */
	__u8 tcp_flags;
	__u8 quoted;	/* the key is that of the packet which this ICMP error quotes */
	__u8 odd;	/* enum drop_reason if it can only be for the local stack: an unknown extension header, a fragment without its first */
	__u8 fragment;	/* enum packet_fragment */
	__u8 leaves;	/* tunnel-gw's own: no flow's, goes out */
	__u8 of_flow;	/* slot and rule are known */
	__u8 outer_ecn;
	__u8 asked;	/* enum tunnel_flag of the node's tunnel; or enum packet_asked, of what no node returned */
	__u8 told;	/* enum tunnel_flag: which of them the packet brought */
	__u8 sidx;	/* hops still to do, of a packet on its way to one */
	__u8 arms;	/* enum port_flag: the arm by which a node returned it */
	__u8 serviced;	/* it came through a node's tunnel or arm */
	__u8 inside;	/* it comes from the inside, as the record of its flow says */
	__u16 chain;
	__u16 fits;	/* too big: bytes of the largest L3 packet that its way takes; 0 = nobody is told */
};

/* A step off the common way: verified once, on its own, whatever leads to it. Pointers it gets are checked at its start. */
#define RARE __noinline

#define ACCESS_ONCE(x) (*(volatile typeof(x) *)&(x))

static __always_inline void *packet_data(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *packet_data_end(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* struct ethhdr is packed, so that its fields would be read byte by byte. */
static __always_inline __be16 ethertype_of(const void *eth)
{
	return *(const __be16 *)(eth + offsetof(struct ethhdr, h_proto));
}

/* The mask says no more than what is so: at most 322 (IPv6, UDP, Geneve with options). The verifier sees it wherever the value has been. */
static __always_inline __u32 packet_l2(const struct packet *p)
{
	return p->l2 & 0x1ff;
}

/* An IPv4 address in a key: ::ffff:a.b.c.d */
static __always_inline void key_put4(__u8 *to, __be32 addr)
{
	((__u64 *)to)[0] = 0;
	((__u32 *)to)[2] = bpf_htonl(0xffff);
	((__u32 *)to)[3] = addr;
}

static __always_inline void key_put6(__u8 *to, const struct in6_addr *addr)
{
	((__u32 *)to)[0] = addr->in6_u.u6_addr32[0];
	((__u32 *)to)[1] = addr->in6_u.u6_addr32[1];
	((__u32 *)to)[2] = addr->in6_u.u6_addr32[2];
	((__u32 *)to)[3] = addr->in6_u.u6_addr32[3];
}

/* Source and destination as in the key; of an ICMP error with a quoted key, never asked for. */
static __always_inline const __u8 *packet_src(const struct packet *p)
{
	return p->norm ? p->key.b : p->key.a;
}

static __always_inline const __u8 *packet_dst(const struct packet *p)
{
	return p->norm ? p->key.a : p->key.b;
}

#endif
