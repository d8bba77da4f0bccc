// SPDX-License-Identifier: Apache-2.0
// Fragments held until the first of their datagram has come: it alone says which flow they belong to (datapath/lib/fragment.h). Put back in
// their order then; put back too when they have waited long enough, where the datapath counts them as dropped unless the first is there
// after all. Bounded: packets per datagram, datagrams at once, bytes in all.
import type { HeldPacket } from './punt-desk.js';

export interface FragmentDeskOptions {
  readonly holdMs: number;
  readonly maxPacketsPerDatagram: number;
  readonly maxDatagrams: number;
  readonly maxBytes: number; // of all held packets together
  readonly monoMs: () => number;
  readonly putBack: (packets: readonly HeldPacket[]) => void;
  readonly dropHeld: (packets: readonly HeldPacket[]) => void;
}

interface Waiting {
  readonly packets: HeldPacket[];
  readonly deadlineMs: number;
}

export class FragmentDesk {
  /** In the order of their deadlines: all wait equally long. */
  private readonly waiting = new Map<string, Waiting>();
  private heldBytes = 0;
  readonly counts = { held: 0, followed: 0, expired: 0, refused: 0 };

  constructor(private readonly options: FragmentDeskOptions) {}

  /** `id` names the datagram, with its VRF. */
  take(id: string, packet: HeldPacket): void {
    const { options, waiting, counts } = this;
    const known = waiting.get(id);
    const room =
      this.heldBytes + packet.frame.length <= options.maxBytes &&
      (known === undefined
        ? waiting.size < options.maxDatagrams
        : known.packets.length < options.maxPacketsPerDatagram);
    if (!room) {
      counts.refused++;
      options.dropHeld([packet]);
      return;
    }
    counts.held++;
    this.heldBytes += packet.frame.length;
    if (known !== undefined) known.packets.push(packet);
    else waiting.set(id, { packets: [packet], deadlineMs: options.monoMs() + options.holdMs });
  }

  /** The first fragment of this datagram has come. */
  settle(id: string): void {
    this.counts.followed += this.release(id);
  }

  tick(): void {
    const now = this.options.monoMs();
    for (const [id, { deadlineMs }] of this.waiting) {
      if (deadlineMs > now) return;
      this.counts.expired += this.release(id);
    }
  }

  private release(id: string): number {
    const entry = this.waiting.get(id);
    if (entry === undefined) return 0;
    this.waiting.delete(id);
    for (const { frame } of entry.packets) this.heldBytes -= frame.length;
    this.options.putBack(entry.packets);
    return entry.packets.length;
  }
}
