// SPDX-License-Identifier: Apache-2.0
// The way back into the datapath for packets that were held: frames behind a struct inject_hdr, written to the inject device, where the same
// program takes them up as if they had just entered. A held packet that ends is sent back too, to be counted with its reason.
import type { PacketSocket } from '@detour/bpf';
import { abi } from '@detour/contracts';
import type { HeldPacket } from './punt-desk.js';

export class Injector {
  readonly counts = { putBack: 0, dropped: 0, lost: 0 };
  private waiting: Uint8Array[] = [];

  constructor(private readonly socket: PacketSocket) {}

  putBack(packets: readonly HeldPacket[]): void {
    this.counts.putBack += packets.length;
    this.send(packets.map((packet) => frameOf(packet.op, 0, packet)));
  }

  drop(packets: readonly HeldPacket[], reason: number): void {
    this.counts.dropped += packets.length;
    this.send(packets.map((packet) => frameOf(abi.InjectOp.INJECT_DROP, reason, packet)));
  }

  /** Frames of one turn of the event loop go in one system call, in their order. */
  private send(frames: readonly Uint8Array[]): void {
    if (frames.length === 0) return;
    if (this.waiting.length === 0) setImmediate(() => this.flush());
    this.waiting.push(...frames);
  }

  private flush(): void {
    const frames = this.waiting;
    this.waiting = [];
    this.counts.lost += frames.length - this.socket.sendMany(frames);
  }
}

const ADDRESSES = {
  dst: Uint8Array.of(2, 0x44, 0x54, 0xff, 0, 1),
  src: Uint8Array.of(2, 0x44, 0x54, 0xff, 0, 2),
};

function frameOf(op: number, reason: number, { port, node, frame }: HeldPacket): Uint8Array {
  const out = Buffer.allocUnsafe(abi.injectHdr.size + frame.length);
  const ethertype = abi.InjectEthertype.INJECT_ETHERTYPE;
  abi.injectHdr.write({ ...ADDRESSES, ethertype, op, reason, port, node }, out);
  out.set(frame, abi.injectHdr.size);
  return out;
}
