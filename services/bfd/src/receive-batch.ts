// SPDX-License-Identifier: Apache-2.0
// Reads many datagrams with one recvmmsg, with their sender and ancillary data; the memory is laid out once and reused.

import { C, lastErrorName, libc, pointerTo } from './libc.js';

// struct mmsghdr on 64-bit Linux: msghdr (name@0, namelen@8, iov@16, iovlen@24, control@32, controllen@40, flags@48), len@56.
const HEADER = 64;
const NAME = 32;
const DATA = 256;
const CONTROL = 128;

/** One received datagram; its arrays are views that the next read overwrites. */
export interface Received {
  readonly name: Uint8Array;
  readonly data: Uint8Array;
  readonly control: Uint8Array;
  /** The datagram was longer than this reads. */
  readonly truncated: boolean;
}

/** Room for `slots` datagrams of at most 256 bytes. */
export class ReceiveBatch {
  readonly slots: number;
  readonly #headers: Uint8Array;
  readonly #view: DataView;
  readonly #iovs: Uint8Array;
  readonly #room: Uint8Array;

  constructor(slots: number) {
    this.slots = slots;
    this.#headers = new Uint8Array(slots * HEADER);
    this.#view = new DataView(this.#headers.buffer);
    this.#iovs = new Uint8Array(slots * 16);
    this.#room = new Uint8Array(slots * (NAME + DATA + CONTROL));
    const iovs = new DataView(this.#iovs.buffer);
    const room = pointerTo(this.#room);
    const iov = pointerTo(this.#iovs);
    for (let i = 0; i < slots; i++) {
      const base = room + BigInt(i * (NAME + DATA + CONTROL));
      iovs.setBigUint64(i * 16, base + BigInt(NAME), true);
      iovs.setBigUint64(i * 16 + 8, BigInt(DATA), true);
      this.#view.setBigUint64(i * HEADER, base, true);
      this.#view.setBigUint64(i * HEADER + 16, iov + BigInt(i * 16), true);
      this.#view.setBigUint64(i * HEADER + 24, 1n, true);
      this.#view.setBigUint64(i * HEADER + 32, base + BigInt(NAME + DATA), true);
      this.#reset(i);
    }
  }

  #reset(i: number): void {
    this.#view.setUint32(i * HEADER + 8, NAME, true);
    this.#view.setUint32(i * HEADER + 40, CONTROL, true);
  }

  /**
   * Takes what is there, without waiting, and calls `each` for every datagram.
   * @returns how many; a full batch (`slots`) means that there may be more. An error of the socket counts as none.
   */
  read(fd: number, each: (received: Received) => void): number {
    const count = libc().recvmmsg(fd, this.#headers, this.slots, C.MSG_DONTWAIT, null);
    if (count < 0) {
      const name = lastErrorName();
      if (name === 'EBADF' || name === 'ENOTSOCK' || name === 'EFAULT') {
        throw new Error(`recvmmsg on file descriptor ${fd}: ${name}`);
      }
      return 0;
    }
    for (let i = 0; i < count; i++) {
      const at = i * HEADER;
      const base = i * (NAME + DATA + CONTROL);
      const dataAt = base + NAME;
      const controlAt = dataAt + DATA;
      each({
        name: this.#room.subarray(base, base + this.#view.getUint32(at + 8, true)),
        data: this.#room.subarray(dataAt, dataAt + Math.min(DATA, this.#view.getUint32(at + 56, true))),
        control: this.#room.subarray(controlAt, controlAt + this.#view.getUint32(at + 40, true)),
        truncated: (this.#view.getUint32(at + 48, true) & C.MSG_TRUNC) !== 0,
      });
      this.#reset(i);
    }
    return count;
  }
}

/** What the ancillary data of an IP datagram says; -1 and null where the kernel said nothing. */
export interface Ancillary {
  readonly ttl: number;
  readonly ifindex: number;
  /** The destination address, 4 or 16 bytes. */
  readonly destination: Uint8Array | null;
}

/** Reads TTL or hop limit, device and destination from control messages (cmsg(3)); anything else is skipped. */
export function parseAncillary(control: Uint8Array): Ancillary {
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  let ttl = -1;
  let ifindex = -1;
  let destination: Uint8Array | null = null;
  for (let at = 0; at + 16 <= control.byteLength; ) {
    const length = Number(view.getBigUint64(at, true));
    if (length < 16 || at + length > control.byteLength) break;
    const level = view.getInt32(at + 8, true);
    const type = view.getInt32(at + 12, true);
    const body = at + 16;
    const bodyLength = length - 16;
    if (level === C.IPPROTO_IP && type === C.IP_TTL && bodyLength >= 4) ttl = view.getInt32(body, true);
    if (level === C.IPPROTO_IPV6 && type === C.IPV6_HOPLIMIT && bodyLength >= 4)
      ttl = view.getInt32(body, true);
    if (level === C.IPPROTO_IP && type === C.IP_PKTINFO && bodyLength >= 12) {
      ifindex = view.getInt32(body, true);
      destination = control.subarray(body + 8, body + 12);
    }
    if (level === C.IPPROTO_IPV6 && type === C.IPV6_PKTINFO && bodyLength >= 20) {
      destination = control.subarray(body, body + 16);
      ifindex = view.getInt32(body + 16, true);
    }
    at += (length + 7) & ~7;
  }
  return { ttl, ifindex, destination };
}
