// SPDX-License-Identifier: Apache-2.0
// What is said to the generator's process, and the memory that it shares with bpf/generator.bpf.c.
import { macToBytes, onesSum } from '@detour/wire';

/** A stream of packets to one device. */
export interface GeneratorCommand {
  readonly ifindex: number;
  /** MAC of the next hop behind that device. */
  readonly dmac: string;
  readonly flows: number;
  /** Source address of flow 0 as a number; see bpf/generator.bpf.c for the others. */
  readonly base: number;
  readonly packets: number;
  /** VLAN of flow i: first + i modulo count; count 0: untagged. */
  readonly vlans: { readonly first: number; readonly count: number };
}

export interface GeneratorReply {
  readonly sent: number;
  /** From the first frame to the last. */
  readonly seconds: number;
  /** Of the process: everything that the frames set off on the way, as far as it ran in its context. */
  readonly cpuSeconds: number;
}

/** All flows go there; UDP, so that a lost packet changes nothing about the next one. */
export const DESTINATION = { address: '203.0.113.9', port: 9000 } as const;
export const GENERATOR_MAC = '02:00:00:00:00:01';
const SENT_AT = 16;
const FIRST_NS_AT = 24;
const LAST_NS_AT = 32;
const FRAME_AT = 40;
const FRAME_BYTES = 64;
const VLANS_AT = FRAME_AT + FRAME_BYTES;
const ETHERNET_BYTES = 14;
const TAG_BYTES = 4;
const IP_BYTES = 20;

/** The address and port of a flow, as the program makes them. */
export function flowSource(base: number, index: number): { readonly address: number; readonly port: number } {
  return { address: base + (index >>> 10), port: 1024 + (index & 1023) };
}

/** Ethernet, an empty 802.1Q tag if wanted, IPv4, UDP (checksum 0: none) and zeros: 64 bytes without the frame check sequence. */
export function templateFrame(dmac: string, tagged = false): Uint8Array {
  const frame = new Uint8Array(FRAME_BYTES);
  const view = new DataView(frame.buffer);
  const ipAt = ipOffset(tagged);
  frame.set(macToBytes(dmac), 0);
  frame.set(macToBytes(GENERATOR_MAC), 6);
  view.setUint16(12, 0x8100);
  view.setUint16(ipAt - 2, 0x0800);
  view.setUint16(ipAt, 0x4500);
  view.setUint16(ipAt + 2, FRAME_BYTES - ipAt);
  view.setUint16(ipAt + 8, 0x4011); // TTL 64, UDP
  frame.set(DESTINATION.address.split('.').map(Number), ipAt + 16);
  view.setUint16(ipAt + IP_BYTES + 2, DESTINATION.port);
  view.setUint16(ipAt + IP_BYTES + 4, FRAME_BYTES - ipAt - IP_BYTES);
  return frame;
}

const ipOffset = (tagged: boolean): number => ETHERNET_BYTES + (tagged ? TAG_BYTES : 0);

/** Writes struct generator; `sent` starts at 0. */
export function encodeGenerator(command: GeneratorCommand, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset);
  const { first, count } = command.vlans;
  const frame = templateFrame(command.dmac, count > 0);
  const ipAt = ipOffset(count > 0);
  const sum = onesSum(frame.subarray(ipAt, ipAt + IP_BYTES));
  view.setUint32(0, command.ifindex, true);
  view.setUint32(4, command.flows, true);
  view.setUint32(8, command.base, true);
  view.setUint32(12, ((sum & 0xff) << 8) | (sum >>> 8), true);
  for (const at of [SENT_AT, FIRST_NS_AT, LAST_NS_AT]) view.setBigUint64(at, 0n, true);
  into.set(frame, FRAME_AT);
  view.setUint32(VLANS_AT, first, true);
  view.setUint32(VLANS_AT + 4, count, true);
}

/** What was made since encodeGenerator. */
export function decodeGenerator(from: Uint8Array): { readonly sent: number; readonly seconds: number } {
  const view = new DataView(from.buffer, from.byteOffset);
  const ns = view.getBigUint64(LAST_NS_AT, true) - view.getBigUint64(FIRST_NS_AT, true);
  return { sent: Number(view.getBigUint64(SENT_AT, true)), seconds: Number(ns) / 1e9 };
}
