// SPDX-License-Identifier: Apache-2.0
// Packets held while the kernel resolves a next hop: put back when its MAC is known, dropped as arp_fail when it does not answer. Bounded:
// packets per next hop, next hops at once, bytes in all.
import type { HeldPacket } from './punt-desk.js';

export interface NeighbourDeskOptions {
  readonly deadlineMs: number;
  readonly maxPacketsPerNextHop: number;
  readonly maxNextHops: number;
  readonly maxBytes: number; // of all held packets together
  readonly monoMs: () => number;
  readonly resolve: (device: string, address: string) => void;
  readonly isResolved: (device: string, address: string) => boolean;
  readonly putBack: (packets: readonly HeldPacket[]) => void;
  readonly dropHeld: (packets: readonly HeldPacket[], why: 'punt_full' | 'arp_fail') => void;
}

interface Waiting {
  readonly device: string;
  readonly address: string;
  readonly packets: HeldPacket[];
  readonly deadlineMs: number;
}

export class NeighbourDesk {
  private readonly waiting = new Map<string, Waiting>();
  private heldBytes = 0;

  constructor(private readonly options: NeighbourDeskOptions) {}

  take(device: string, address: string, packet: HeldPacket): void {
    if (this.options.isResolved(device, address)) {
      this.options.putBack([packet]); // it was resolved while the event was on its way
      return;
    }
    const id = `${device} ${address}`;
    const known = this.waiting.get(id);
    if (known !== undefined && known.packets.length >= this.options.maxPacketsPerNextHop) {
      this.options.dropHeld([packet], 'arp_fail'); // VRFD-8: queued up to a bound, then dropped
      return;
    }
    const room = this.heldBytes + packet.frame.length <= this.options.maxBytes;
    if (!room || (known === undefined && this.waiting.size >= this.options.maxNextHops)) {
      this.options.dropHeld([packet], 'punt_full');
      return;
    }
    this.heldBytes += packet.frame.length;
    if (known !== undefined) {
      known.packets.push(packet);
      return;
    }
    const deadlineMs = this.options.monoMs() + this.options.deadlineMs;
    this.waiting.set(id, { device, address, packets: [packet], deadlineMs });
    this.options.resolve(device, address);
  }

  /** The kernel's word about a neighbour: its MAC is known now, or it did not answer. */
  settle(device: string, address: string, resolved: boolean): void {
    const id = `${device} ${address}`;
    const entry = this.waiting.get(id);
    if (entry === undefined) return;
    this.waiting.delete(id);
    for (const { frame } of entry.packets) this.heldBytes -= frame.length;
    if (resolved) this.options.putBack(entry.packets);
    else this.options.dropHeld(entry.packets, 'arp_fail');
  }

  tick(): void {
    const now = this.options.monoMs();
    for (const entry of [...this.waiting.values()]) {
      if (entry.deadlineMs <= now) this.settle(entry.device, entry.address, false);
    }
  }
}
