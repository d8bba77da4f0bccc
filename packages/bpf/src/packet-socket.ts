// SPDX-License-Identifier: Apache-2.0
// Whole Ethernet frames to and from one device (AF_PACKET): for re-injection and for crafted test frames.
//
// AF_PACKET only transmits: a frame that is sent here leaves by the device and is not received by it. To have a frame received
// by a program on device X, send it by the other side of X's veth pair.
import { Fault } from '@detour/core';
import { Errno, errnoFault, lastErrno } from './errno.js';
import { closeFd } from './map.js';
import { messageSlab } from './message-slab.js';
import { native } from './native.js';
import { waitReadable } from './wait-readable.js';
import { ifindex } from './xdp.js';

export interface PacketSocketOptions {
  /** Only frames of this EtherType are received, e.g. 0x0806; default all. */
  readonly ethertype?: number;
  /** Longest frame in bytes, both ways, without a VLAN tag; default 16,384. Longer ones received are counted, not handed out. */
  readonly maxFrame?: number;
  /** Bytes of frames that may wait to be read, as the kernel counts them (a small frame counts 1 to 4 KiB); default the system's. */
  readonly receiveBuffer?: number;
}

export interface PacketSocket extends Disposable {
  readonly device: string;
  readonly ifindex: number;
  /** Sends one frame; false when the device's queue is full. */
  send(frame: Uint8Array): boolean;
  /** Sends frames in order until the queue is full; returns how many went. */
  sendMany(frames: readonly Uint8Array[]): number;
  /**
   * Hands out every frame that the device receives from now on, VLAN tag included, not those sent by this machine through it.
   * The view is valid during the call only.
   */
  receive(onFrame: (frame: Uint8Array) => void): void;
  /** Frames that were longer than maxFrame. */
  readonly truncated: number;
  close(): void;
}

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_AUXDATA = 8;
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 3;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
const TP_STATUS_VLAN_VALID = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID = 1 << 6;
const ETH_P_8021Q = 0x8100;
const SLOTS = 64;
const MIN_FRAME = 14;
const EMSGSIZE = 90;

/** @throws Fault `not_found` for a device that does not exist, `permission` without CAP_NET_RAW. */
export function openPacketSocket(device: string, options: PacketSocketOptions = {}): PacketSocket {
  const { c } = native();
  const index = ifindex(device);
  const maxFrame = options.maxFrame ?? 16_384;
  const ethertype = options.ethertype ?? ETH_P_ALL;
  if (!(maxFrame >= MIN_FRAME && maxFrame <= 65_536))
    throw new Fault('invalid', `maxFrame of ${maxFrame}; give 14 to 65536`);
  const fd = c.socket(AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, 0);
  if (fd < 0) throw errnoFault(lastErrno(), `packet socket on ${device}`, 'it needs CAP_NET_RAW');
  const sending = messageSlab(SLOTS, maxFrame);
  let stop: (() => void) | undefined;
  let open = true;
  let truncated = 0;

  const setOption = (name: number, value = 1, level = SOL_PACKET): void => {
    const rc = c.setsockopt(fd, level, name, Uint32Array.of(value), 4);
    if (rc !== 0) throw errnoFault(lastErrno(), `packet socket on ${device}: option ${name}`);
  };
  const bindTo = (protocol: number): void => {
    const address = new Uint8Array(20); // struct sockaddr_ll
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setUint16(2, protocol, false);
    view.setInt32(4, index, true);
    if (c.bind(fd, address, address.length) !== 0)
      throw errnoFault(lastErrno(), `packet socket on ${device}: bind`);
  };
  const close = (): void => {
    if (!open) return;
    open = false;
    stop?.();
    closeFd(fd);
  };
  try {
    setOption(PACKET_IGNORE_OUTGOING);
    setOption(PACKET_AUXDATA);
    if (options.receiveBuffer !== undefined) setOption(SO_RCVBUFFORCE, options.receiveBuffer, SOL_SOCKET);
    bindTo(0); // protocol 0 receives nothing
  } catch (error) {
    close();
    throw error;
  }

  const sendChunk = (frames: readonly Uint8Array[]): number => {
    for (const [i, frame] of frames.entries()) {
      if (frame.length < MIN_FRAME || frame.length > maxFrame) {
        throw new Fault(
          'invalid',
          `frame of ${frame.length} bytes for ${device}; give ${MIN_FRAME} to ${maxFrame}`,
        );
      }
      sending.fill(i, frame);
    }
    const sent = c.sendmmsg(fd, sending.headers, frames.length, MSG_DONTWAIT);
    if (sent >= 0) return sent;
    const errno = lastErrno();
    if (errno === Errno.EAGAIN || errno === Errno.ENOBUFS) return 0;
    const remedy =
      errno === EMSGSIZE
        ? `a frame is longer than the device's MTU allows`
        : errno === Errno.ENETDOWN
          ? `set it up: ip link set ${device} up`
          : undefined;
    throw errnoFault(errno, `packet socket on ${device}: send`, remedy);
  };
  const sendMany = (frames: readonly Uint8Array[]): number => {
    if (!open) throw new Fault('invalid', `packet socket on ${device} is closed`);
    let sent = 0;
    while (sent < frames.length) {
      const went = sendChunk(frames.slice(sent, sent + SLOTS));
      if (went === 0) break;
      sent += went;
    }
    return sent;
  };

  const receive = (onFrame: (frame: Uint8Array) => void): void => {
    if (!open || stop !== undefined)
      throw new Fault('invalid', `packet socket on ${device} is closed or receives already`);
    const slab = messageSlab(SLOTS, maxFrame);
    const readOnce = (): void => {
      for (let i = 0; i < SLOTS; i++) slab.clear(i);
      const got = c.recvmmsg(fd, slab.headers, SLOTS, MSG_DONTWAIT, null);
      if (got < 0) {
        const errno = lastErrno();
        // ENETDOWN is told once when the device goes down; frames come again when it is up.
        if (errno === Errno.EAGAIN || errno === Errno.ENETDOWN) return;
        throw errnoFault(errno, `packet socket on ${device}: receive`);
      }
      for (let i = 0; i < got && open; i++) {
        const { length, flags, controlLength } = slab.received(i);
        if ((flags & MSG_TRUNC) !== 0) truncated++;
        else onFrame(withVlanTag(slab.slot(i), slab.frameOffset, length, slab.control(i), controlLength));
      }
    };
    bindTo(ethertype);
    stop = waitReadable(fd, readOnce);
  };

  return {
    device,
    ifindex: index,
    send: (frame) => sendMany([frame]) === 1,
    sendMany,
    receive,
    get truncated() {
      return truncated;
    },
    close,
    [Symbol.dispose]: close,
  };
}

/** The kernel takes the outermost VLAN tag off what it hands out, and tells it beside the frame (struct tpacket_auxdata). */
function withVlanTag(
  slot: Uint8Array,
  offset: number,
  length: number,
  control: DataView,
  controlLength: number,
): Uint8Array {
  const frame = slot.subarray(offset, offset + length);
  const auxdata = 16;
  if (controlLength < auxdata + 20 || control.getUint32(8, true) !== SOL_PACKET) return frame;
  if (control.getUint32(12, true) !== PACKET_AUXDATA) return frame;
  const status = control.getUint32(auxdata, true);
  if ((status & TP_STATUS_VLAN_VALID) === 0) return frame;
  const tci = control.getUint16(auxdata + 16, true);
  const tpid =
    (status & TP_STATUS_VLAN_TPID_VALID) !== 0 ? control.getUint16(auxdata + 18, true) : ETH_P_8021Q;
  slot.copyWithin(offset - 4, offset, offset + 12);
  slot.set([tpid >> 8, tpid & 255, tci >> 8, tci & 255], offset + 8);
  return slot.subarray(offset - 4, offset + length);
}
