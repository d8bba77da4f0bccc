// SPDX-License-Identifier: Apache-2.0
/**
 * What the ways to tunnels' remote ends take, as routers of the underlay said it (RFC 1191, RFC 8201). Kept per remote end for ten minutes
 * after it was last said, then the link's own MTU counts again (RFC 1191 6.3). Only ever smaller than what is known, never below what a
 * network must take: a message that lies can make packets small, and no smaller than that.
 */
import { formatAddress, isMappedV4 } from '@detour/core';
import { IPV6_LEAST_MTU } from '@detour/wire';
import { addressBytes } from './row-bytes.js';

export interface PathMtuReport {
  readonly remote: string;
  /** Bytes; 0 from a router that does not say it. */
  readonly mtu: number;
  /** Total length of the outer packet that was too big. */
  readonly ofBytes: number;
}

const KEEP_MS = 10 * 60_000;
const LEAST_V4 = 576; // RFC 791 3.2: what every host takes
/** Sizes of common links, for routers that do not say theirs (RFC 1191 7.1). */
const PLATEAUS = [65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006];

export class PathMtus {
  private readonly known = new Map<string, { mtu: number; untilMs: number }>();

  constructor(private readonly monoMs: () => number) {}

  /** Bytes of the largest outer packet, if a router has said one. */
  of(remote: string): number | undefined {
    return this.known.get(keyOf(remote))?.mtu;
  }

  /** Of a link's MTU, what the way to this remote end takes. */
  within(remote: string, linkMtu: number): number {
    return Math.min(linkMtu, this.of(remote) ?? linkMtu);
  }

  /** Takes a router's word; true when less fits from now on. What cannot be so is not believed. */
  learn({ remote, mtu, ofBytes }: PathMtuReport): boolean {
    const key = keyOf(remote);
    const said = mtu === 0 ? (PLATEAUS.find((size) => size < ofBytes) ?? 0) : mtu;
    const least = isMappedV4(addressBytes(remote)) ? LEAST_V4 : IPV6_LEAST_MTU;
    if (said < least || said >= ofBytes) return false;
    const held = this.known.get(key);
    if (held !== undefined && said > held.mtu) return false;
    this.known.set(key, { mtu: said, untilMs: this.monoMs() + KEEP_MS });
    return held?.mtu !== said;
  }

  /** Forgets what was said too long ago; true when something was. */
  expire(): boolean {
    const now = this.monoMs();
    let expired = false;
    for (const [key, { untilMs }] of this.known)
      if (untilMs <= now) expired = this.known.delete(key) || expired;
    return expired;
  }
}

function keyOf(remote: string): string {
  return formatAddress(addressBytes(remote));
}
