/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The options of a Geneve packet that came in (RFC 8926 3.5): what is known is read, what must be known and is not drops the packet. */
#ifndef DETOUR_GENEVE_OPTIONS_H
#define DETOUR_GENEVE_OPTIONS_H

#include "packet.h"
#include "tunnel-const.h"

/* Walks len bytes of options from `at` on. */
RARE int geneve_options(struct xdp_md *ctx, struct packet *p, __u32 at, __u32 len, __u32 asked)
{
	void *data = packet_data(ctx), *end = packet_data_end(ctx);
	__u32 i;

	if (!p)
		return DROP_TUNNEL_HEADER;
	for (i = 0; i < GENEVE_OPTIONS && len; i++) {
		__u8 *option = data + (at & 0x1ff);
		__u32 size;
		__be16 class;

		if (len < GENEVE_OPTION_HEADER || (void *)(option + GENEVE_OPTION_HEADER) > end)
			return DROP_TUNNEL_HEADER;
		class = *(__be16 *)option;
		size = GENEVE_OPTION_HEADER + (option[3] & 0x1f) * 4;
		if (size > len)
			return DROP_TUNNEL_HEADER;
		if (class == bpf_htons(GENEVE_CLASS_GWLB) && option[2] == GENEVE_GWLB_COOKIE && size == 8) {
			if ((void *)(option + 8) > end)
				return DROP_TUNNEL_HEADER;
			p->told |= TUNNEL_COOKIE;
			p->cookie = bpf_ntohl(*(__be32 *)(option + 4));
		} else if (class == bpf_htons(GENEVE_CLASS_PATH) && option[2] == GENEVE_TYPE_PATH && (asked & TUNNEL_PATH)) {
			struct geneve_path *path = (struct geneve_path *)option;

			if (size != sizeof(*path) || (void *)(path + 1) > end)
				return DROP_TUNNEL_HEADER;
			if (path->version != GENEVE_PATH_VERSION || (path->flags & ~GENEVE_PATH_REVERSE))
				return DROP_TUNNEL_OPTION;
			p->told |= path->flags & GENEVE_PATH_REVERSE ? TUNNEL_PATH | TUNNEL_PATH_REVERSE : TUNNEL_PATH;
			p->cookie = bpf_ntohl(path->cookie_be);
		} else if (option[2] & GENEVE_OPTION_CRITICAL) {
			return DROP_TUNNEL_OPTION;
		}
		at += size;
		len -= size;
	}
	return len ? DROP_TUNNEL_HEADER : 0;
}

#endif
