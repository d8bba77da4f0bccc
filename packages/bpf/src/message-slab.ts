// SPDX-License-Identifier: Apache-2.0
// One block of memory laid out as an array of struct mmsghdr with a buffer each, for sendmmsg and recvmmsg.
import koffi from 'koffi';

/** sizeof(struct mmsghdr), struct iovec on 64-bit Linux. */
const MMSGHDR_BYTES = 64;
const IOVEC_BYTES = 16;
const MSG_LEN = 56;
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const MSG_FLAGS = 48;

/** Room for one cmsg with struct tpacket_auxdata (16 + 20, padded). */
const CONTROL_BYTES = 64;
/** Free bytes in front of each buffer, so that a VLAN tag can be put back without moving the payload. */
const HEADROOM = 4;

export interface MessageSlab {
  /** The mmsghdr array. */
  readonly headers: Uint8Array;
  readonly slots: number;
  readonly slotBytes: number;
  /** Copies a frame into a slot's buffer. */
  fill(slot: number, frame: Uint8Array): void;
  /** Makes a slot ready to receive into. */
  clear(slot: number): void;
  /** What recvmmsg said of a slot. */
  received(slot: number): { readonly length: number; readonly flags: number; readonly controlLength: number };
  /** Memory of a slot: HEADROOM free bytes, then the frame. */
  readonly frameOffset: number;
  slot(slot: number): Uint8Array;
  control(slot: number): DataView;
}

export function messageSlab(slots: number, slotBytes: number): MessageSlab {
  const headers = new Uint8Array(slots * MMSGHDR_BYTES);
  const iovecs = new Uint8Array(slots * IOVEC_BYTES);
  const controls = new Uint8Array(slots * CONTROL_BYTES);
  const stride = HEADROOM + slotBytes;
  const buffers = new Uint8Array(slots * stride);
  const header = new DataView(headers.buffer);
  const iovec = new DataView(iovecs.buffer);
  const at = {
    iovecs: koffi.address(iovecs),
    controls: koffi.address(controls),
    buffers: koffi.address(buffers),
  };
  const big = (value: number): bigint => BigInt(value);
  for (let i = 0; i < slots; i++) {
    const base = i * MMSGHDR_BYTES;
    header.setBigUint64(base + MSG_IOV, at.iovecs + big(i * IOVEC_BYTES), true);
    header.setBigUint64(base + MSG_IOVLEN, 1n, true);
    iovec.setBigUint64(i * IOVEC_BYTES, at.buffers + big(i * stride + HEADROOM), true);
  }
  return {
    headers,
    slots,
    slotBytes,
    frameOffset: HEADROOM,
    fill: (slot, frame) => {
      buffers.set(frame, slot * stride + HEADROOM);
      iovec.setUint32(slot * IOVEC_BYTES + 8, frame.length, true);
    },
    clear: (slot) => {
      const base = slot * MMSGHDR_BYTES;
      iovec.setUint32(slot * IOVEC_BYTES + 8, slotBytes, true);
      header.setBigUint64(base + MSG_CONTROL, at.controls + big(slot * CONTROL_BYTES), true);
      header.setUint32(base + MSG_CONTROLLEN, CONTROL_BYTES, true);
    },
    received: (slot) => {
      const base = slot * MMSGHDR_BYTES;
      return {
        length: header.getUint32(base + MSG_LEN, true),
        flags: header.getUint32(base + MSG_FLAGS, true),
        controlLength: header.getUint32(base + MSG_CONTROLLEN, true),
      };
    },
    slot: (slot) => buffers.subarray(slot * stride, (slot + 1) * stride),
    control: (slot) => new DataView(controls.buffer, slot * CONTROL_BYTES, CONTROL_BYTES),
  };
}
