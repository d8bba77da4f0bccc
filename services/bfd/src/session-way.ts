// SPDX-License-Identifier: Apache-2.0
// A session's way to its peer: the socket and MAC address by which its packets go out, and what those that cross the node measure.

import { Fault } from '@detour/core';
import {
  type BfdPacket,
  bfdEchoPort,
  bfdMultihopPort,
  bfdPacketLenBytes,
  encodeBfdPacket,
  ipToBytes,
  macToBytes,
} from '@detour/wire';
import { ControlSender } from './control-socket.js';
import { sendRaw } from './echo-socket.js';
import type { SessionSpec } from './loop-messages.js';
import { PROBE_LEN_BYTES, ProbeLog } from './probe-log.js';

/** What a way borrows from the loop. */
export interface SharedSockets {
  readonly takePort: () => number;
  readonly echoFd: number;
}

export class SessionWay {
  /** Of the next hop; null while it is not known. */
  mac: string | null = null;
  readonly probes = new ProbeLog();
  readonly #sockets: SharedSockets;
  readonly #bytes = new Uint8Array(PROBE_LEN_BYTES);
  #open: { readonly ifindex: number; readonly sender: ControlSender } | null = null;

  constructor(sockets: SharedSockets) {
    this.#sockets = sockets;
  }

  get ifindex(): number | null {
    return this.#open?.ifindex ?? null;
  }

  /** @returns null, or why it cannot be opened */
  open({ device, local, peer }: SessionSpec, ifindex: number): string | null {
    try {
      const path = { device, ifindex, local: ipToBytes(local), peer: ipToBytes(peer) };
      this.#open = { ifindex, sender: ControlSender.open(path, this.#sockets.takePort) };
      return null;
    } catch (error) {
      if (error instanceof Fault) return error.detail;
      throw error;
    }
  }

  close(): void {
    this.probes.forget();
    this.#open?.sender.close();
    this.#open = null;
  }

  /** A control packet that the other end, of two on this machine, gets through the node measures one direction. @returns null, or the errno name */
  sendControl(spec: SessionSpec, packet: BfdPacket, nowUs: number): string | null {
    if (this.#open === null) return 'EHOSTUNREACH';
    encodeBfdPacket(packet, this.#bytes);
    const { sender } = this.#open;
    const { multihop } = spec;
    const send = (bytes: Uint8Array) =>
      multihop === null
        ? sender.send(bytes)
        : this.#sendFar(spec, { to: multihop.to, dstPort: bfdMultihopPort }, bytes);
    return spec.end === null ? send(this.#bytes.subarray(0, bfdPacketLenBytes)) : this.#numbered(nowUs, send);
  }

  /** @returns null, or the errno name */
  sendEcho(spec: SessionSpec, packet: BfdPacket, nowUs: number): string | null {
    encodeBfdPacket(packet, this.#bytes);
    const to = { to: spec.local, dstPort: bfdEchoPort };
    return this.#numbered(nowUs, (bytes) => this.#sendFar(spec, to, bytes));
  }

  #numbered(nowUs: number, send: (bytes: Uint8Array) => string | null): string | null {
    const number = this.probes.stamp(this.#bytes, nowUs);
    const failed = send(this.#bytes);
    if (failed !== null) this.probes.unsent(number);
    return failed;
  }

  /** To an address of ours, by way of the peer: the kernel would keep such a packet on the machine. */
  #sendFar(
    { local }: SessionSpec,
    to: { readonly to: string; readonly dstPort: number },
    bytes: Uint8Array,
  ): string | null {
    if (this.#open === null || this.mac === null) return 'EHOSTUNREACH';
    const { ifindex, sender } = this.#open;
    const way = { ifindex, mac: macToBytes(this.mac), local, srcPort: sender.port };
    return sendRaw(this.#sockets.echoFd, { ...way, ...to }, bytes);
  }
}
