/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet that is larger than its way takes: tunnel-gw gets it, and tells its sender or cuts it.
 *
 * With DF, or IPv6: fragmentation needed (RFC 1191 4) or packet too big (RFC 8201), with the size that fits. Without DF tunnel-gw makes
 * fragments and puts them back where the packet was (RFC 791 3.2). Nobody is told of an ICMP error that is too big (RFC 1122 3.2.2,
 * RFC 4443 2.4 e). Beyond the source's bucket, or without tunnel-gw, the packet is dropped as too_big; so is, in the end, one whose
 * sender was told.
 */
#ifndef DETOUR_TOO_BIG_H
#define DETOUR_TOO_BIG_H

#include "maps.h"
#include "packet.h"
#include "punt.h"

RARE int too_big(struct xdp_md *ctx, struct packet *p, const struct control *c)
{
	struct scratch *s = scratch_here();
	__u32 frame;
	int end;

	if (!p || !c || !s || !p->fits || p->quoted || p->leaves || !punt_allowed(p, c, PUNT_TOO_BIG))
		return DROP_TOO_BIG;
	event_fill(&s->event, p, EVENT_TOO_BIG);
	s->event.old_path = p->fits;
	frame = p->frame;
	if (frame > DT_PUNT_BYTES)
		p->frame = DT_PUNT_BYTES;
	end = punt_send(ctx, p, s);
	p->frame = frame;
	return end == PACKET_PUNT ? PACKET_PUNT : DROP_TOO_BIG;
}

#endif
