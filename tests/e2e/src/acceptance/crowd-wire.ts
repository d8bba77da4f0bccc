// SPDX-License-Identifier: Apache-2.0
/**
 * Packets of numbered flows, as bytes: built and read fast enough for 100,000 flows on one core.
 *
 * A crowd is many flows between addresses that no kernel owns: clients 10.1.16.0 and up, one server address. Flow number i
 * always has the same tuple, so both sides know it without being told. Every packet that carries data has 20 bytes of payload:
 *
 *   magic and kind (4) · flow number (4) · number of the message, from 1, per flow and sender (4) · time in ms (4) · their sum (4)
 *
 * so that loss, duplication, reordering, alteration and a packet of another flow can be told apart. TCP sequence numbers are
 * coherent (each side's first one follows from the flow's number), so that a firewall which tracks windows takes them. The TTL is
 * kept on arrival: every router on the way takes one off, so a packet that went past the nodes shows.
 *
 * IPv4 (RFC 791) without options, TCP (RFC 9293) without options, UDP (RFC 768); checksums are real.
 */
import { macToBytes } from '@detour/wire';

export const FLOW_PROTO = { tcp: 6, udp: 17 } as const;
export type FlowProto = keyof typeof FLOW_PROTO;

/** What a packet says: TCP's handshake, or a message that asks for an answer, or the answer. */
export const PACKET_KINDS = ['syn', 'syn-ack', 'ack', 'ask', 'answer'] as const;
export type PacketKind = (typeof PACKET_KINDS)[number];

/** Which end of the flows a side is. */
export type CrowdRole = 'client' | 'server';

export interface CrowdPlace {
  readonly role: CrowdRole;
  /** Of the device it sends from, and of the gateway's port at the other end. */
  readonly ownMac: string;
  readonly gatewayMac: string;
  /** The server's address, and its port for all flows. */
  readonly server: string;
  readonly port: number;
}

export interface FlowPacket {
  readonly flow: number;
  readonly proto: FlowProto;
  readonly kind: PacketKind;
  /** Number of the message; 0 for a packet of the handshake. */
  readonly number: number;
  readonly sentMs: number;
  readonly ttl: number;
}

/** Why a packet of the crowd's addresses was not taken. */
export type FlowRefusal = 'foreign' | 'corrupt';

export const CLIENT_ADDRESSES = 4_096;
const FIRST_CLIENT = 0x0a011000; // 10.1.16.0
const FIRST_PORT = 1_024;
const MAGIC = 0x44745200;
const ETH = 14;
const IP = 20;
const TCP = 20;
const UDP = 8;
export const MESSAGE_BYTES = 20;
const FLAG = { syn: 0x02, psh: 0x08, ack: 0x10 } as const;
const FLAGS_OF: Readonly<Record<PacketKind, number>> = {
  syn: FLAG.syn,
  'syn-ack': FLAG.syn | FLAG.ack,
  ack: FLAG.ack,
  ask: FLAG.psh | FLAG.ack,
  answer: FLAG.psh | FLAG.ack,
};
const START_TTL = 64;

/** Client address (as a number) and port of a flow. */
export function clientOf(flow: number): { readonly address: number; readonly port: number } {
  return {
    address: FIRST_CLIENT + (flow % CLIENT_ADDRESSES),
    port: FIRST_PORT + Math.floor(flow / CLIENT_ADDRESSES),
  };
}

/** The same as text, as connection tracking and flow records show it. */
export function clientText(flow: number): string {
  const { address, port } = clientOf(flow);
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}:${port}`;
}

/** The same for a range of flows. */
export function namesOf({ first, count }: { readonly first: number; readonly count: number }): string[] {
  return Array.from({ length: count }, (_, i) => clientText(first + i));
}

/** First sequence number of a side of a flow. */
function firstSequence(flow: number, role: CrowdRole): number {
  return (Math.imul(flow + 1, 0x9e3779b1) ^ (role === 'client' ? 0x1234567 : 0x7654321)) >>> 0;
}

export interface BuildFields {
  readonly flow: number;
  readonly proto: FlowProto;
  readonly kind: PacketKind;
  /** Number of this message, from 1; 0 for the handshake. */
  readonly number: number;
  /** Messages of the other side that have arrived. */
  readonly heard: number;
  readonly nowMs: number;
}

/** Builds packets of one side, and reads those that arrive there. */
export class CrowdWire {
  readonly #place: CrowdPlace;
  readonly #server: number;
  readonly #macs: Uint8Array;

  constructor(place: CrowdPlace) {
    this.#place = place;
    this.#macs = new Uint8Array([...macToBytes(place.gatewayMac), ...macToBytes(place.ownMac)]);
    this.#server = addressNumber(place.server);
  }

  /** Writes the frame to the start of `into` (at least 128 bytes); returns its length. */
  build(fields: BuildFields, into: Uint8Array): number {
    const { flow, proto } = fields;
    const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
    const tcp = proto === 'tcp';
    const carries = fields.number > 0;
    const l4Bytes = (tcp ? TCP : UDP) + (carries ? MESSAGE_BYTES : 0);
    const isClient = this.#place.role === 'client';
    const client = clientOf(flow);
    const source = isClient ? client.address : this.#server;
    const target = isClient ? this.#server : client.address;

    into.set(this.#macs);
    view.setUint16(12, 0x0800);
    view.setUint32(ETH, 0x45000000 | (IP + l4Bytes));
    view.setUint32(ETH + 4, 0x00004000); // don't fragment
    view.setUint32(ETH + 8, (START_TTL << 24) | (FLOW_PROTO[proto] << 16));
    view.setUint32(ETH + 12, source);
    view.setUint32(ETH + 16, target);
    view.setUint16(ETH + 10, sumOf(view, ETH, IP, 0));

    const l4 = ETH + IP;
    view.setUint16(l4, isClient ? client.port : this.#place.port);
    view.setUint16(l4 + 2, isClient ? this.#place.port : client.port);
    if (tcp) this.#putTcp(view, fields);
    else view.setUint32(l4 + 4, l4Bytes << 16);
    if (carries) putMessage(view, l4 + (tcp ? TCP : UDP), fields);
    const pseudo =
      (source >>> 16) + (source & 0xffff) + (target >>> 16) + (target & 0xffff) + FLOW_PROTO[proto] + l4Bytes;
    const sum = sumOf(view, l4, l4Bytes, pseudo);
    view.setUint16(l4 + (tcp ? 16 : 6), tcp || sum !== 0 ? sum : 0xffff);
    return l4 + l4Bytes;
  }

  #putTcp(view: DataView, { flow, kind, number, heard }: BuildFields): void {
    const own = this.#place.role;
    const other = own === 'client' ? 'server' : 'client';
    const l4 = ETH + IP;
    const shaken = kind === 'syn' || kind === 'syn-ack' ? 0 : 1 + Math.max(0, number - 1) * MESSAGE_BYTES;
    const answers = kind === 'syn' ? 0 : firstSequence(flow, other) + 1 + heard * MESSAGE_BYTES;
    const flags: number = FLAGS_OF[kind];
    view.setUint32(l4 + 4, firstSequence(flow, own) + shaken);
    view.setUint32(l4 + 8, answers);
    view.setUint16(l4 + 12, 0x5000 | flags);
    view.setUint16(l4 + 14, 65_535);
    view.setUint32(l4 + 16, 0);
  }

  /** Reads a frame that arrived; null when it is none of the crowd's. */
  read(frame: Uint8Array): FlowPacket | FlowRefusal | null {
    if (frame.length < ETH + IP + UDP) return null;
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    if (view.getUint16(12) !== 0x0800 || view.getUint8(ETH) !== 0x45) return null;
    const isClient = this.#place.role === 'client';
    const l4 = ETH + IP;
    const protocol = view.getUint8(ETH + 9);
    const proto = protocol === FLOW_PROTO.tcp ? 'tcp' : protocol === FLOW_PROTO.udp ? 'udp' : null;
    const client = view.getUint32(ETH + (isClient ? 16 : 12)) - FIRST_CLIENT;
    if (proto === null || client < 0 || client >= CLIENT_ADDRESSES) return null;
    if (
      view.getUint32(ETH + (isClient ? 12 : 16)) !== this.#server ||
      view.getUint16(l4 + (isClient ? 0 : 2)) !== this.#place.port
    )
      return null;
    const flow = (view.getUint16(l4 + (isClient ? 2 : 0)) - FIRST_PORT) * CLIENT_ADDRESSES + client;
    const ttl = view.getUint8(ETH + 8);
    const header = proto === 'tcp' ? TCP : UDP;
    const bytes = view.getUint16(ETH + 2) - IP - header;
    if (proto === 'tcp' && bytes === 0) return this.#readShake(view, flow, ttl);
    return readMessage(view, { at: l4 + header, bytes, flow, ttl, proto });
  }

  #readShake(view: DataView, flow: number, ttl: number): FlowPacket | FlowRefusal {
    const flags = view.getUint8(ETH + IP + 13);
    const kind = ({ [FLAG.syn]: 'syn', [FLAG.syn | FLAG.ack]: 'syn-ack', [FLAG.ack]: 'ack' } as const)[flags];
    if (kind === undefined) return 'foreign';
    const other = this.#place.role === 'client' ? 'server' : 'client';
    if (kind !== 'ack' && view.getUint32(ETH + IP + 4) !== firstSequence(flow, other)) return 'corrupt';
    return { flow, proto: 'tcp', kind, number: 0, sentMs: 0, ttl };
  }
}

function putMessage(view: DataView, at: number, { flow, kind, number, nowMs }: BuildFields): void {
  const head = (MAGIC | (kind === 'answer' ? 1 : 0)) >>> 0;
  const ms = nowMs >>> 0;
  view.setUint32(at, head);
  view.setUint32(at + 4, flow);
  view.setUint32(at + 8, number);
  view.setUint32(at + 12, ms);
  view.setUint32(at + 16, messageSum(head, flow, number, ms));
}

function readMessage(
  view: DataView,
  from: { at: number; bytes: number; flow: number; ttl: number; proto: FlowProto },
): FlowPacket | FlowRefusal {
  const { at, flow, proto, ttl } = from;
  if (from.bytes !== MESSAGE_BYTES || at + MESSAGE_BYTES > view.byteLength) return 'foreign';
  const head = view.getUint32(at);
  const number = view.getUint32(at + 8);
  const sentMs = view.getUint32(at + 12);
  if (view.getUint32(at + 4) !== flow || (head & ~1) >>> 0 !== MAGIC) return 'corrupt';
  if (view.getUint32(at + 16) !== messageSum(head, flow, number, sentMs)) return 'corrupt';
  return { flow, proto, kind: (head & 1) === 1 ? 'answer' : 'ask', number, sentMs, ttl };
}

function messageSum(...words: readonly number[]): number {
  let sum = 0x811c9dc5;
  for (const word of words) sum = Math.imul(sum ^ word, 0x01000193) ^ (sum >>> 15);
  return sum >>> 0;
}

/** Internet checksum (RFC 1071), inverted; the length is even. */
function sumOf(view: DataView, from: number, bytes: number, start: number): number {
  let sum = start;
  for (let at = from; at < from + bytes; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function addressNumber(text: string): number {
  return text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}
