// SPDX-License-Identifier: Apache-2.0
/**
 * Packets that are larger than their way takes.
 *
 * IPv4 without DF is cut into fragments, which go on where the packet was held and follow their first like any others (RFC 791 3.2).
 * Everything else is dropped, and its sender told what fits: fragmentation needed (RFC 1191 4) or packet too big (RFC 8201), from an own
 * address of the VRF, straight to the sender and not through the path. Messages are limited in all (RFC 1812 4.3.2.8, RFC 4443 2.4 f);
 * the datapath limits what one source can cause.
 */

import { abi } from '@detour/contracts';
import {
  concatBytes,
  fragmentIpv4,
  type IcmpErrorNews,
  IPV6_LEAST_MTU,
  icmpErrorAbout,
  ipv4FromBytes,
  ipv6FromBytes,
} from '@detour/wire';
import type { OwnAddress } from './own-address.js';
import type { HeldPacket } from './punt-desk.js';
import { TokenBucket } from './token-bucket.js';

export interface TooBigDeskOptions {
  readonly messagesPerS: number;
  readonly monoMs: () => number;
  /** From where somebody is spoken to about a packet that entered there; null: from nowhere. */
  readonly from: (packet: Pick<HeldPacket, 'port' | 'node'>, towards: string) => OwnAddress | null;
  readonly putBack: (packets: readonly HeldPacket[]) => void;
  readonly dropHeld: (packets: readonly HeldPacket[]) => void;
}

const ETHERNET = 14;
/** What of a dropped frame is enough to count it. */
const DROPPED_BYTES = 128;

export class TooBigDesk {
  /** told: senders; cut: packets into fragments; silent: nobody may be told, or from nowhere; limited: too many messages. */
  readonly counts = { told: 0, cut: 0, silent: 0, limited: 0 };
  private readonly bucket: TokenBucket;

  constructor(private readonly options: TooBigDeskOptions) {
    this.bucket = new TokenBucket(options.messagesPerS, options.monoMs);
  }

  /** A frame as it stood on its port, maybe cut short, and the size in bytes of the IP packet that fits. */
  take(packet: HeldPacket, fits: number): void {
    const ip = packet.frame.subarray(ETHERNET);
    if (mayBeCut(ip)) {
      const cut = fragmentIpv4(ip, fits);
      if (cut.ok) {
        this.counts.cut++;
        const head = packet.frame.subarray(0, ETHERNET);
        this.options.putBack(cut.value.map((one) => ({ ...packet, frame: concatBytes(head, one) })));
        return;
      }
      this.counts.silent++;
    } else if (isIpv6(ip) && ip.length <= IPV6_LEAST_MTU) {
      this.counts.silent++; // smaller than any link of IPv6 may be: no sender would make it smaller
    } else {
      this.tell(packet, { kind: 'too-big', mtu: fits });
    }
    this.options.dropHeld([{ ...packet, frame: packet.frame.slice(0, DROPPED_BYTES) }]);
  }

  /** Says something about a packet to its source. */
  tell(packet: HeldPacket, news: IcmpErrorNews): void {
    const { options, counts } = this;
    const ip = packet.frame.subarray(ETHERNET);
    const source = sourceOf(ip);
    const from = source === null ? null : options.from(packet, source);
    const message = from === null ? null : icmpErrorAbout(ip, from.address, news);
    if (from === null || message === null || !message.ok) counts.silent++;
    else if (!this.bucket.take(1)) counts.limited++;
    else {
      counts.told++;
      const frame = concatBytes(packet.frame.subarray(0, ETHERNET), message.value);
      options.putBack([{ frame, op: abi.InjectOp.INJECT_LEAVE, port: from.port, node: 0 }]);
    }
  }
}

function isIpv6(ip: Uint8Array): boolean {
  return (ip[0] ?? 0) >>> 4 === 6;
}

function mayBeCut(ip: Uint8Array): boolean {
  return (ip[0] ?? 0) >>> 4 === 4 && ((ip[6] ?? 0) & 0x40) === 0;
}

function sourceOf(ip: Uint8Array): string | null {
  if (isIpv6(ip)) return ip.length < 40 ? null : ipv6FromBytes(ip.subarray(8, 24));
  return ip.length < 20 ? null : ipv4FromBytes(ip.subarray(12, 16));
}
