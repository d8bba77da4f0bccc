// SPDX-License-Identifier: Apache-2.0
// RSTs to the ends of TCP connections whose node is down and whose chain keeps them (onNodeDown: keep). They leave by the VRF's routing
// table and pass no node. The datapath says when, and bounds what one flow and one source may cause (datapath/lib/reset.h); here all
// together are bounded. A flow that was not told because of that says so again with a packet a second later.
import { abi } from '@detour/contracts';
import { concatBytes, ETHERTYPE, resetForReceiver, resetForSender, type Segment } from '@detour/wire';
import type { HeldPacket } from './punt-desk.js';
import { TokenBucket } from './token-bucket.js';

export interface ResetDeskOptions {
  /** RSTs in all, per second and at once. */
  readonly resetsPerS: number;
  readonly monoMs: () => number;
  readonly putBack: (packets: readonly HeldPacket[]) => void;
}

/** A segment that was dropped, and by which port it came. */
export interface LostSegment extends Segment {
  readonly port: number;
  /** Nobody was told before. */
  readonly first: boolean;
}

const ETHERNET = 14;

export class ResetDesk {
  /** sent: RSTs; limited: RSTs that would have been too many. */
  readonly counts = { sent: 0, limited: 0 };
  private readonly bucket: TokenBucket;

  constructor(private readonly options: ResetDeskOptions) {
    this.bucket = new TokenBucket(options.resetsPerS, options.monoMs);
  }

  take(segment: LostSegment): void {
    const resets = [resetForSender(segment), segment.first ? resetForReceiver(segment) : null];
    const packets = resets.filter((packet) => packet !== null);
    if (!this.bucket.take(packets.length)) {
      this.counts.limited += packets.length;
      return;
    }
    this.counts.sent += packets.length;
    this.options.putBack(packets.map((packet) => leaving(packet, segment.port)));
  }
}

/** MAC addresses are the way out's. */
function leaving(packet: Uint8Array, port: number): HeldPacket {
  const head = new Uint8Array(ETHERNET);
  const v6 = (packet[0] ?? 0) >>> 4 === 6;
  new DataView(head.buffer).setUint16(ETHERNET - 2, v6 ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4);
  return { frame: concatBytes(head, packet), op: abi.InjectOp.INJECT_LEAVE, port, node: 0 };
}
