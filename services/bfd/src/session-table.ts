// SPDX-License-Identifier: Apache-2.0
// Which session a received packet belongs to, or which rule refuses it: TTL, discriminator, then addresses and device.

import type { BfdPacket } from '@detour/wire';
import type { SessionSpec } from './loop-messages.js';

/** Where a packet came from: 16-byte addresses as text keys are made by {@link pathKey}. */
export interface Arrival {
  readonly ttl: number;
  readonly path: string;
  readonly hops: Hops;
}

/** One hop (RFC 5881), or several (RFC 5883), which have a port of their own. */
export type Hops = 'single' | 'multi';

/** What the table needs to know of a session. */
export interface SessionAddress {
  readonly id: string;
  readonly localDiscr: number;
  /** Null while the device or the local address is not there. */
  readonly path: string | null;
}

export type DemuxRefusal =
  | 'ttl-not-255'
  | 'no-session-with-discriminator'
  | 'wrong-path'
  | 'no-session-with-peer';
export type Demuxed =
  | { readonly ok: true; readonly id: string }
  | { readonly ok: false; readonly why: DemuxRefusal; readonly got: string };

/** One key for (device, peer address, hops): with equal addresses in two VRFs only the device tells them apart. */
export function pathKey(ifindex: number, peerHex: string, hops: Hops = 'single'): string {
  return `${ifindex} ${peerHex} ${hops}`;
}

/** Sessions by discriminator and by path. */
export class SessionTable {
  readonly #byDiscr = new Map<number, SessionAddress>();
  readonly #byPath = new Map<string, SessionAddress>();

  /** Adds or moves a session; a discriminator belongs to one session for as long as that lives. */
  put(address: SessionAddress): void {
    this.remove(address.localDiscr);
    this.#byDiscr.set(address.localDiscr, address);
    if (address.path !== null) this.#byPath.set(address.path, address);
  }

  remove(localDiscr: number): void {
    const old = this.#byDiscr.get(localDiscr);
    this.#byDiscr.delete(localDiscr);
    if (old?.path != null && this.#byPath.get(old.path) === old) this.#byPath.delete(old.path);
  }

  hasDiscr(discr: number): boolean {
    return this.#byDiscr.has(discr);
  }

  /** The session that a packet is for. */
  find(packet: BfdPacket, arrival: Arrival): Demuxed {
    // RFC 5881 section 5 (GTSM, RFC 5082): without authentication only the directly connected peer is believed.
    if (arrival.hops === 'single' && arrival.ttl !== 255)
      return { ok: false, why: 'ttl-not-255', got: String(arrival.ttl) };
    if (packet.yourDiscr === 0) {
      // RFC 5880 section 6.8.6: by other fields; RFC 5881 section 3: addresses and interface.
      const session = this.#byPath.get(arrival.path);
      if (session === undefined) return { ok: false, why: 'no-session-with-peer', got: arrival.path };
      return { ok: true, id: session.id };
    }
    const session = this.#byDiscr.get(packet.yourDiscr);
    if (session === undefined) {
      return { ok: false, why: 'no-session-with-discriminator', got: String(packet.yourDiscr) };
    }
    if (session.path !== arrival.path) return { ok: false, why: 'wrong-path', got: arrival.path };
    return { ok: true, id: session.id };
  }
}

/** Whether a session can go on with this spec as it is: nothing of its way has changed. */
export function samePath(one: SessionSpec, other: SessionSpec): boolean {
  return (
    one.device === other.device &&
    one.local === other.local &&
    one.peer === other.peer &&
    one.hears === other.hears &&
    one.multihop?.to === other.multihop?.to
  );
}
