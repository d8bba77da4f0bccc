// SPDX-License-Identifier: Apache-2.0
/** What a capture of a node's tunnel shows, in order: BFD control packets by sender, and everything else that was sent into the tunnel. */
import type { CapturedPacket } from '@detour/lab';
import {
  type BfdState,
  bfdControlPort,
  parseBfdPacket,
  parseFrame,
  parseVxlan,
  VXLAN_PORT,
} from '@detour/wire';

export type TunnelEntry =
  | { readonly kind: 'bfd'; readonly atUs: number; readonly from: string; readonly state: BfdState }
  /** A packet of the crowd. */
  | { readonly kind: 'redirected'; readonly atUs: number; readonly from: string };

/** `crowdPort`: the server port by which the crowd's packets are known. */
export function readTunnel(packets: readonly CapturedPacket[], crowdPort: number): TunnelEntry[] {
  return packets.flatMap(({ bytes, timestampUs }): TunnelEntry[] => {
    const outer = parseFrame(bytes);
    if (!outer.ok || outer.value.udp?.dstPort !== VXLAN_PORT) return [];
    const vxlan = parseVxlan(outer.value.payload);
    const inner = vxlan.ok ? parseFrame(vxlan.value.payload) : vxlan;
    if (!inner.ok) return [];
    const from = outer.value.ipv4?.src ?? '';
    const { udp, tcp, payload } = inner.value;
    if (udp?.dstPort === bfdControlPort) {
      const read = parseBfdPacket(payload);
      return read.ok ? [{ kind: 'bfd', atUs: timestampUs, from, state: read.packet.state }] : [];
    }
    const ports = tcp ?? udp;
    const ours = ports?.dstPort === crowdPort || ports?.srcPort === crowdPort;
    return ours ? [{ kind: 'redirected', atUs: timestampUs, from }] : [];
  });
}

/** A sender's states without repetitions. */
export function statesOf(entries: readonly TunnelEntry[], from: string): BfdState[] {
  const states = entries.flatMap((entry) =>
    entry.kind === 'bfd' && entry.from === from ? [entry.state] : [],
  );
  return states.filter((state, i) => state !== states[i - 1]);
}
