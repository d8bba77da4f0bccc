// SPDX-License-Identifier: Apache-2.0

/*
 * Packets from us to us (RFC 9747): sent to the node's MAC address, forwarded back by it, and taken before the kernel drops them.
 *
 * The kernel's IP layer would keep such a packet on the machine when sending, and drop it as martian when receiving. Packet sockets
 * (AF_PACKET, cooked: we write from the IP header on) stand below both. One sender serves all devices; one receiver per family,
 * with a kernel filter (UDP, port 3785, source equal to destination, no fragment), hears all devices that hand packets up.
 */

import {
  bfdEchoPort,
  buildIpv4,
  buildIpv6,
  buildUdp,
  IP_PROTOCOL,
  parseIpv4,
  parseIpv6,
  parseUdp,
} from '@detour/wire';
import { C, lastErrorName, lastFault, libc, pointerTo } from './libc.js';
import type { ReceiveBatch } from './receive-batch.js';

const ETH_P = { 4: 0x0800, 6: 0x86dd } as const;

type Instruction = readonly [code: number, jt: number, jf: number, k: number];
// Classic BPF (linux/filter.h); the packet starts at the IP header.
const filters: Record<4 | 6, readonly Instruction[]> = {
  4: [
    [0x30, 0, 0, 9], // ldb protocol
    [0x15, 0, 9, 17], // jeq UDP
    [0x28, 0, 0, 6], // ldh fragment
    [0x45, 7, 0, 0x3fff], // jset → drop
    [0xb1, 0, 0, 0], // ldxb header length
    [0x48, 0, 0, 2], // ldh destination port
    [0x15, 0, 4, bfdEchoPort],
    [0x20, 0, 0, 12], // ld source
    [0x07, 0, 0, 0], // tax
    [0x20, 0, 0, 16], // ld destination
    [0x1d, 1, 0, 0], // jeq x → accept
    [0x06, 0, 0, 0],
    [0x06, 0, 0, 256],
  ],
  6: [
    [0x30, 0, 0, 6], // ldb next header
    [0x15, 0, 3, 17],
    [0x28, 0, 0, 42], // ldh destination port
    [0x15, 0, 1, bfdEchoPort],
    [0x06, 0, 0, 256],
    [0x06, 0, 0, 0],
  ],
};

function open(protocol: number, what: string): number {
  // The protocol argument is in network order.
  const swapped = ((protocol & 0xff) << 8) | (protocol >> 8);
  const fd = libc().socket(C.AF_PACKET, C.SOCK_DGRAM | C.SOCK_CLOEXEC | C.SOCK_NONBLOCK, swapped);
  if (fd < 0) throw lastFault(what);
  return fd;
}

/** The socket that sends echoes on any device; it hears nothing. @throws Fault */
export function openEchoSender(): number {
  return open(0, 'packet socket for BFD echo');
}

/** The socket that takes echoes of a family off any device. @throws Fault */
export function openEchoReceiver(family: 4 | 6): number {
  // Opened deaf and bound to the protocol after the filter is in place, so that nothing else is ever queued.
  const fd = open(0, `packet socket for BFD echo of IPv${family}`);
  const program = filters[family];
  const code = new Uint8Array(program.length * 8);
  const view = new DataView(code.buffer);
  program.forEach(([op, jt, jf, k], i) => {
    view.setUint16(i * 8, op, true);
    view.setUint8(i * 8 + 2, jt);
    view.setUint8(i * 8 + 3, jf);
    view.setUint32(i * 8 + 4, k, true);
  });
  const fprog = new Uint8Array(16);
  const fprogView = new DataView(fprog.buffer);
  fprogView.setUint16(0, program.length, true);
  fprogView.setBigUint64(8, pointerTo(code), true);
  const attached = libc().setsockopt(fd, C.SOL_SOCKET, C.SO_ATTACH_FILTER, fprog, 16);
  const all = linkAddress(ETH_P[family], 0, new Uint8Array(6));
  if (attached < 0 || libc().bind(fd, all, all.byteLength) < 0) {
    const fault = lastFault(`kernel filter for BFD echo of IPv${family}`);
    libc().close(fd);
    throw fault;
  }
  return fd;
}

/** struct sockaddr_ll, 20 bytes. */
function linkAddress(protocol: number, ifindex: number, mac: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, C.AF_PACKET, true);
  view.setUint16(2, protocol);
  view.setInt32(4, ifindex, true);
  view.setUint8(11, 6);
  bytes.set(mac, 12);
  return bytes;
}

/** Where a packet goes: out of a device to a MAC address, from `local`, to `to` (text); an echo goes to `local` itself. */
export interface RawPath {
  readonly ifindex: number;
  readonly mac: Uint8Array;
  readonly local: string;
  readonly to: string;
  readonly srcPort: number;
  readonly dstPort: number;
}

/** Sends without waiting. @returns null, or the errno name of the failure */
export function sendRaw(fd: number, path: RawPath, payload: Uint8Array): string | null {
  const { local, to: dst } = path;
  const udp = buildUdp({ srcPort: path.srcPort, dstPort: path.dstPort }, payload, { src: local, dst });
  const v6 = local.includes(':');
  // RFC 9747 section 2: TTL or hop limit 255.
  const packet = v6
    ? buildIpv6({ src: local, dst, nextHeader: IP_PROTOCOL.udp, hopLimit: 255, trafficClass: 0xc0 }, udp)
    : buildIpv4({ src: local, dst, protocol: IP_PROTOCOL.udp, ttl: 255, tos: 0xc0 }, udp);
  const to = linkAddress(ETH_P[v6 ? 6 : 4], path.ifindex, path.mac);
  const sent = libc().sendto(fd, packet, packet.byteLength, C.MSG_DONTWAIT, to, to.byteLength);
  return sent < 0 ? lastErrorName() : null;
}

/** An echo that came back; `address` is both its source and its destination. */
export interface EchoArrival {
  readonly ifindex: number;
  readonly address: string;
  readonly ttl: number;
  readonly payload: Uint8Array;
}

/** An echo, or why what came is none. */
export type EchoParse =
  | { readonly ok: true; readonly arrival: EchoArrival }
  | { readonly ok: false; readonly why: string; readonly got: string };

/** Reads one batch; true when there may be more. */
export function readEchoes(fd: number, batch: ReceiveBatch, each: (parsed: EchoParse) => void): boolean {
  return batch.read(fd, ({ name, data }) => each(parseEcho(name, data))) === batch.slots;
}

/** Takes a packet apart that a cooked packet socket received: sockaddr_ll, then the bytes from the IP header on. */
export function parseEcho(name: Uint8Array, data: Uint8Array): EchoParse {
  if (name.byteLength < 12) return { ok: false, why: 'echo-no-sender', got: String(name.byteLength) };
  const view = new DataView(name.buffer, name.byteOffset, name.byteLength);
  const packetType = view.getUint8(10);
  if (packetType !== 0) return { ok: false, why: 'echo-not-for-us', got: String(packetType) }; // PACKET_HOST
  const ip = view.getUint16(2) === ETH_P[6] ? parseIpv6(data) : parseIpv4(data);
  if (!ip.ok) return { ok: false, why: 'echo-bad-ip', got: ip.why };
  const udp = parseUdp(ip.value.payload);
  if (!udp.ok) return { ok: false, why: 'echo-bad-udp', got: udp.why };
  const header = ip.value.header;
  if (header.src !== header.dst) return { ok: false, why: 'echo-not-ours', got: header.src };
  const ttl = 'ttl' in header ? header.ttl : header.hopLimit;
  const ifindex = view.getInt32(4, true);
  return { ok: true, arrival: { ifindex, address: header.src, ttl, payload: udp.value.payload } };
}
