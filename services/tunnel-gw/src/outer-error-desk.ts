// SPDX-License-Identifier: Apache-2.0
// ICMP errors about outer packets: what a way takes is kept for the next packet that is too big for it, and where the router quoted the inner
// packet, its source hears of it at once (RFC 2003 5, RFC 2473 8). Only about flows that are known here and that pass this tunnel.
import { abi } from '@detour/contracts';
import type { Tuple } from '@detour/core';
import { concatBytes, type IcmpErrorNews } from '@detour/wire';
import { isOfHop, type OuterError, outerBytes, parseOuterError, quotedInner } from './outer-error.js';
import type { PathMtus } from './path-mtus.js';
import type { HeldPacket } from './punt-desk.js';
import { quotedTuple } from './quoted-tuple.js';

/** A tunnel as it is used now; either node or port is 0. */
export interface TunnelHop {
  readonly remote: string;
  readonly vrf: number;
  readonly node: number;
  readonly port: number;
  readonly hop: abi.Hop;
}

export interface OuterErrorDeskOptions {
  readonly hops: () => Iterable<TunnelHop>;
  readonly pathMtus: PathMtus;
  /** Less fits to this remote end than was known. */
  readonly onPathMtu: (remote: string, mtu: number, router: string) => void;
  /** Whether a flow is known that goes through this tunnel. */
  readonly isThrough: (tunnel: TunnelHop, tuple: Tuple) => boolean;
  readonly tell: (packet: HeldPacket, news: IcmpErrorNews) => void;
}

export class OuterErrorDesk {
  /** learnt: sizes; passedOn: to the inner packet's source; foreign: not about a packet of ours, or a flow that is not known. */
  readonly counts = { learnt: 0, passedOn: 0, foreign: 0, refused: 0 };

  constructor(private readonly options: OuterErrorDeskOptions) {}

  /** A frame that came to the underlay address. */
  take(frame: Uint8Array): void {
    const parsed = parseOuterError(frame);
    if (!parsed.ok) {
      this.counts.refused++;
      return;
    }
    const { quoted } = parsed.value;
    for (const tunnel of this.options.hops()) {
      if (!isOfHop(tunnel.hop, quoted)) continue;
      this.about(tunnel, parsed.value);
      return;
    }
    this.counts.foreign++;
  }

  private about(tunnel: TunnelHop, { news, quoted, router }: OuterError): void {
    const { hop, remote } = tunnel;
    const { pathMtus, onPathMtu, isThrough, tell } = this.options;
    const inner = quotedInner(hop, quoted);
    if (news.kind === 'too-big') {
      const learnt = pathMtus.learn({ remote, mtu: news.mtu, ofBytes: outerBytes(quoted) });
      const mtu = pathMtus.of(remote);
      if (learnt) this.counts.learnt++;
      if (learnt && mtu !== undefined) onPathMtu(remote, mtu, router);
      // IPv4 that may be cut is cut next time; its source need not know.
      if (mtu === undefined || inner === null || mayBeCut(inner)) return;
    }
    if (inner === null) return;
    const tuple = quotedTuple(inner, tunnel.vrf);
    if (tuple === null || !isThrough(tunnel, tuple)) {
      this.counts.foreign++;
      return;
    }
    this.counts.passedOn++;
    const fits = (pathMtus.of(remote) ?? 0) - (hop.headerLen - hop.outerL3);
    tell(heldAs(tunnel, inner), news.kind === 'too-big' ? { kind: 'too-big', mtu: fits } : news);
  }
}

/** The inner packet as if it were held where its answer belongs. */
function heldAs(tunnel: TunnelHop, inner: Uint8Array): HeldPacket {
  const head = new Uint8Array(14);
  new DataView(head.buffer).setUint16(12, (inner[0] ?? 0) >>> 4 === 6 ? 0x86dd : 0x0800);
  const op = tunnel.node === 0 ? abi.InjectOp.INJECT_PORT : abi.InjectOp.INJECT_RETURN;
  return { frame: concatBytes(head, inner), op, port: tunnel.port, node: tunnel.node };
}

function mayBeCut(inner: Uint8Array): boolean {
  return (inner[0] ?? 0) >>> 4 === 4 && ((inner[6] ?? 0) & 0x40) === 0;
}
