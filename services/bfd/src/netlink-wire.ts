// SPDX-License-Identifier: Apache-2.0
// rtnetlink messages (rtnetlink(7)) about devices, addresses and neighbours, from bytes to events; unknown ones are skipped.

import { formatAddress } from '@detour/core';
import { ipToBytes, macFromBytes } from '@detour/wire';

/** One thing that the kernel said. Addresses are text (RFC 5952), MACs as 02:00:00:00:00:01. */
export type NetlinkEvent =
  | {
      readonly kind: 'link';
      readonly ifindex: number;
      readonly name: string;
      readonly up: boolean;
      readonly noArp: boolean;
      readonly mac: string;
    }
  | { readonly kind: 'link-gone'; readonly ifindex: number }
  | { readonly kind: 'address'; readonly ifindex: number; readonly address: string; readonly usable: boolean }
  | {
      readonly kind: 'neighbour';
      readonly ifindex: number;
      readonly address: string;
      readonly mac: string | null;
    }
  | { readonly kind: 'done'; readonly sequence: number }
  | { readonly kind: 'error'; readonly errno: number };

/** rtnetlink message types and group bits (linux/rtnetlink.h). */
export const RTM = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  newAddr: 20,
  delAddr: 21,
  getAddr: 22,
  newNeigh: 28,
  delNeigh: 29,
  getNeigh: 30,
} as const;
/** RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR. */
export const watchedGroups = 0x1 | 0x4 | 0x10 | 0x100;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const IFF_UP = 0x1;
const IFF_NOARP = 0x80;
const IFA_F_TENTATIVE = 0x40;
// Reachable, stale, delay, probe, no-ARP, permanent: states whose MAC address may be used (linux/neighbour.h).
const NUD_VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

/** A request for all rows of one kind; `type` is one of the get types. */
export function dumpRequest(type: number, sequence: number): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 20, true);
  view.setUint16(4, type, true);
  view.setUint16(6, 0x301, true); // NLM_F_REQUEST | NLM_F_DUMP
  view.setUint32(8, sequence, true);
  return bytes;
}

/** All events in one datagram of the kernel; stops at the first malformed length. */
export function parseNetlink(bytes: Uint8Array): NetlinkEvent[] {
  const events: NetlinkEvent[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 16 <= bytes.byteLength; ) {
    const length = view.getUint32(at, true);
    if (length < 16 || at + length > bytes.byteLength) break;
    const event = parseMessage(view, at, bytes.subarray(at + 16, at + length));
    if (event !== null) events.push(event);
    at += (length + 3) & ~3;
  }
  return events;
}

function parseMessage(header: DataView, at: number, body: Uint8Array): NetlinkEvent | null {
  const type = header.getUint16(at + 4, true);
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  switch (type) {
    case NLMSG_DONE:
      return { kind: 'done', sequence: header.getUint32(at + 8, true) };
    case NLMSG_ERROR: {
      const errno = body.byteLength >= 4 ? -view.getInt32(0, true) : 0;
      return errno === 0 ? null : { kind: 'error', errno };
    }
    case RTM.newLink:
    case RTM.delLink:
      return parseLink(type, body, view);
    case RTM.newAddr:
    case RTM.delAddr:
      return parseAddr(type, body, view);
    case RTM.newNeigh:
    case RTM.delNeigh:
      return parseNeigh(type, body, view);
    default:
      return null;
  }
}

function parseLink(type: number, body: Uint8Array, view: DataView): NetlinkEvent | null {
  if (body.byteLength < 16) return null;
  const ifindex = view.getInt32(4, true);
  if (type === RTM.delLink) {
    // A bridge port that leaves its bridge says RTM_DELLINK too, in the family AF_BRIDGE (7).
    return view.getUint8(0) === 0 ? { kind: 'link-gone', ifindex } : null;
  }
  const flags = view.getUint32(8, true);
  const found = attributes(body.subarray(16));
  const name = found.get(3); // IFLA_IFNAME
  if (name === undefined) return null;
  return {
    kind: 'link',
    ifindex,
    name: new TextDecoder().decode(name.subarray(0, -1)),
    up: (flags & IFF_UP) !== 0,
    noArp: (flags & IFF_NOARP) !== 0,
    mac: macFromBytes(found.get(1) ?? new Uint8Array(6)), // IFLA_ADDRESS
  };
}

function parseAddr(type: number, body: Uint8Array, view: DataView): NetlinkEvent | null {
  if (body.byteLength < 8) return null;
  const found = attributes(body.subarray(8));
  const address = addressText(found.get(2) ?? found.get(1)); // IFA_LOCAL, else IFA_ADDRESS
  if (address === null) return null;
  const flagBytes = found.get(8); // IFA_FLAGS
  const flags =
    flagBytes !== undefined && flagBytes.byteLength >= 4
      ? new DataView(flagBytes.buffer, flagBytes.byteOffset, 4).getUint32(0, true)
      : view.getUint8(2);
  const usable = type === RTM.newAddr && (flags & IFA_F_TENTATIVE) === 0;
  return { kind: 'address', ifindex: view.getUint32(4, true), address, usable };
}

function parseNeigh(type: number, body: Uint8Array, view: DataView): NetlinkEvent | null {
  if (body.byteLength < 12) return null;
  const found = attributes(body.subarray(12));
  const address = addressText(found.get(1)); // NDA_DST
  if (address === null) return null;
  const mac = found.get(2); // NDA_LLADDR
  const valid = type === RTM.newNeigh && (view.getUint16(8, true) & NUD_VALID) !== 0 && mac?.byteLength === 6;
  return {
    kind: 'neighbour',
    ifindex: view.getInt32(4, true),
    address,
    mac: valid && mac !== undefined ? macFromBytes(mac) : null,
  };
}

/** Netlink attributes by type, of a whole message's or of a nested attribute's bytes. */
export function attributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.byteLength; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.byteLength) break;
    found.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return found;
}

function addressText(bytes: Uint8Array | undefined): string | null {
  if (bytes?.byteLength === 4) return bytes.join('.');
  return bytes?.byteLength === 16 ? formatAddress(bytes) : null;
}

/** The one text of an address (RFC 5952), so that texts compare equal when the addresses are. @throws RangeError */
export function canonicalAddress(text: string): string {
  const bytes = ipToBytes(text);
  return addressText(bytes) ?? text;
}
