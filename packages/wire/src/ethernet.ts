// SPDX-License-Identifier: Apache-2.0
/** Ethernet II frames and ARP for IPv4 (RFC 826). */
import { ipv4FromBytes, ipv4ToBytes, macFromBytes, macToBytes } from './address.js';
import { concatBytes, viewOf } from './bytes.js';
import { accept, type Layer, type Parsed, refuse } from './parsed.js';

export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd } as const;
export const ETHERNET_LENGTH = 14;

export interface Ethernet {
  readonly dst: string;
  readonly src: string;
  readonly etherType: number;
}

export function buildEthernet(header: Ethernet, payload: Uint8Array): Uint8Array {
  const type = Uint8Array.of(header.etherType >>> 8, header.etherType & 0xff);
  return concatBytes(macToBytes(header.dst), macToBytes(header.src), type, payload);
}

export function parseEthernet(bytes: Uint8Array): Parsed<Layer<Ethernet>> {
  if (bytes.length < ETHERNET_LENGTH) return refuse('an Ethernet header is 14 bytes', bytes.length);
  return accept({
    header: {
      dst: macFromBytes(bytes),
      src: macFromBytes(bytes.subarray(6)),
      etherType: viewOf(bytes).getUint16(12),
    },
    payload: bytes.subarray(ETHERNET_LENGTH),
  });
}

export interface Arp {
  readonly op: 'request' | 'reply';
  readonly senderMac: string;
  readonly senderIp: string;
  readonly targetMac: string;
  readonly targetIp: string;
}

export function buildArp(arp: Arp): Uint8Array {
  const fixed = Uint8Array.of(0, 1, 8, 0, 6, 4, 0, arp.op === 'request' ? 1 : 2);
  return concatBytes(
    fixed,
    macToBytes(arp.senderMac),
    ipv4ToBytes(arp.senderIp),
    macToBytes(arp.targetMac),
    ipv4ToBytes(arp.targetIp),
  );
}

export function parseArp(bytes: Uint8Array): Parsed<Arp> {
  if (bytes.length < 28) return refuse('ARP for IPv4 is 28 bytes', bytes.length);
  const view = viewOf(bytes);
  if (view.getUint32(0) !== 0x00010800) return refuse('Ethernet and IPv4', view.getUint32(0));
  if (view.getUint16(4) !== 0x0604) return refuse('address lengths 6 and 4', view.getUint16(4));
  const op = view.getUint16(6);
  if (op !== 1 && op !== 2) return refuse('request (1) or reply (2)', op);
  return accept({
    op: op === 1 ? 'request' : 'reply',
    senderMac: macFromBytes(bytes.subarray(8)),
    senderIp: ipv4FromBytes(bytes.subarray(14)),
    targetMac: macFromBytes(bytes.subarray(18)),
    targetIp: ipv4FromBytes(bytes.subarray(24)),
  });
}
