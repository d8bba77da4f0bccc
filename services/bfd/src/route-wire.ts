// SPDX-License-Identifier: Apache-2.0

/*
 * rtnetlink messages about routes (rtnetlink(7), linux/rtnetlink.h, linux/nexthop.h): the questions, and what the kernel says, as values.
 *
 * Two kinds of text come here. Events say that something may have changed, and only which table and prefix it was is read from them: a route
 * may be replaced, appended to or taken with its next hop, and no event tells the whole of it. Answers to a question are the truth: all
 * routes of one table whose next hop is one device.
 */

import { formatAddress } from '@detour/core';

/** What an event touches: one prefix of one table, or perhaps everything. */
export type RouteEvent =
  | { readonly kind: 'route'; readonly table: number; readonly prefix: string }
  | { readonly kind: 'anything' };

/** One message of the answer to a question. */
export type RouteAnswer =
  | { readonly kind: 'route'; readonly prefix: string; readonly usable: boolean }
  /** The table changed meanwhile, and something may be missing. */
  | { readonly kind: 'interrupted' }
  /** `errno` 0: that was all. */
  | { readonly kind: 'end'; readonly errno: number };

export interface RouteQuestion {
  readonly family: 4 | 6;
  readonly table: number;
  readonly ifindex: number;
  readonly sequence: number;
}

/** RTMGRP_LINK | IPV4_IFADDR | IPV4_ROUTE | IPV6_IFADDR | IPV6_ROUTE, and RTNLGRP_NEXTHOP (32). */
export const routeGroups = 0x1 | 0x10 | 0x40 | 0x100 | 0x400 | 0x8000_0000;

const RTM = { newRoute: 24, delRoute: 25, getRoute: 26 } as const;
/** Devices, addresses and next hops: what goes with them takes routes along, for IPv4 without a word. */
const TAKES_ROUTES_ALONG: ReadonlySet<number> = new Set([16, 17, 20, 21, 104, 105]);
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_DUMP_INTR = 0x10;
const RTA = { dst: 1, oif: 4, multipath: 9, table: 15 } as const;
const RTN_UNICAST = 1;
/** RTNH_F_DEAD | RTNH_F_LINKDOWN: the next hop's device does not carry anything now. */
const DEAD = 0x1 | 0x10;
const FAMILY = { 4: 2, 6: 10 } as const; // AF_INET, AF_INET6

/** Asks for the routes of a table whose next hop is a device; needs NETLINK_GET_STRICT_CHK, or all routes come. */
export function routeQuestion({ family, table, ifindex, sequence }: RouteQuestion): Uint8Array {
  const bytes = new Uint8Array(16 + 12 + 8 + 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.byteLength, true);
  view.setUint16(4, RTM.getRoute, true);
  view.setUint16(6, 0x301, true); // NLM_F_REQUEST | NLM_F_DUMP
  view.setUint32(8, sequence, true);
  view.setUint8(16, FAMILY[family]);
  view.setUint8(23, RTN_UNICAST);
  for (const [at, type, value] of [
    [28, RTA.table, table],
    [36, RTA.oif, ifindex],
  ] as const) {
    view.setUint16(at, 8, true);
    view.setUint16(at + 2, type, true);
    view.setUint32(at + 4, value, true);
  }
  return bytes;
}

/** All events of a datagram; stops at the first malformed length, and then anything may have been in it. */
export function parseRouteEvents(bytes: Uint8Array): RouteEvent[] {
  const { messages, whole } = split(bytes);
  const events = messages.flatMap(({ type, body }): RouteEvent[] => {
    if (TAKES_ROUTES_ALONG.has(type)) return [{ kind: 'anything' }];
    if (type !== RTM.newRoute && type !== RTM.delRoute) return [];
    const route = readRoute(body);
    return route === null ? [] : [{ kind: 'route', table: route.table, prefix: route.prefix }];
  });
  return whole ? events : [...events, { kind: 'anything' }];
}

/** The messages of an answer that belong to a question; of others, nothing. */
export function parseRouteAnswers(bytes: Uint8Array, asked: RouteQuestion): RouteAnswer[] {
  return split(bytes).messages.flatMap(({ type, flags, sequence, body, view }): RouteAnswer[] => {
    if (sequence !== asked.sequence) return [];
    const before: RouteAnswer[] = (flags & NLM_F_DUMP_INTR) === 0 ? [] : [{ kind: 'interrupted' }];
    if (type === NLMSG_DONE || type === NLMSG_ERROR)
      return [...before, { kind: 'end', errno: body.byteLength >= 4 ? Math.abs(view.getInt32(0, true)) : 0 }];
    const route = type === RTM.newRoute ? readRoute(body) : null;
    if (route === null || route.table !== asked.table || route.type !== RTN_UNICAST) return before;
    return [...before, { kind: 'route', prefix: route.prefix, usable: isUsable(route, asked.ifindex) }];
  });
}

interface Route {
  readonly table: number;
  readonly type: number;
  readonly prefix: string;
  readonly flags: number;
  readonly found: ReadonlyMap<number, Uint8Array>;
}

function readRoute(body: Uint8Array): Route | null {
  if (body.byteLength < 12) return null;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const width = view.getUint8(0) === FAMILY[4] ? 4 : view.getUint8(0) === FAMILY[6] ? 16 : 0;
  if (width === 0) return null;
  const found = attributes(body.subarray(12));
  const dst = found.get(RTA.dst) ?? new Uint8Array(width); // absent of a default route
  const length = view.getUint8(1);
  if (dst.byteLength !== width || length > 8 * width) return null;
  const address = width === 4 ? dst.join('.') : formatAddress(dst);
  return {
    table: u32(found.get(RTA.table)) ?? view.getUint8(4),
    type: view.getUint8(7),
    prefix: `${address}/${length}`,
    flags: view.getUint32(8, true),
    found,
  };
}

/** A next hop by the device carries packets. With next hop objects alone (nexthop_compat_mode=0) the kernel's own filter has spoken. */
function isUsable({ flags, found }: Route, ifindex: number): boolean {
  const ways = nextHops(found.get(RTA.multipath));
  if (ways.length > 0) return ways.some((way) => way.ifindex === ifindex && (way.flags & DEAD) === 0);
  const oif = u32(found.get(RTA.oif));
  return (oif === null || oif === ifindex) && (flags & DEAD) === 0;
}

/** struct rtnexthop: length, flags, hops, ifindex; attributes behind it. */
function nextHops(bytes: Uint8Array | undefined): { ifindex: number; flags: number }[] {
  const ways: { ifindex: number; flags: number }[] = [];
  if (bytes === undefined) return ways;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 8 <= bytes.byteLength; ) {
    const length = view.getUint16(at, true);
    if (length < 8 || at + length > bytes.byteLength) break;
    ways.push({ ifindex: view.getInt32(at + 4, true), flags: view.getUint8(at + 2) });
    at += (length + 3) & ~3;
  }
  return ways;
}

interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Uint8Array;
  readonly view: DataView;
}

function split(bytes: Uint8Array): { messages: Message[]; whole: boolean } {
  const messages: Message[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  while (at + 16 <= bytes.byteLength) {
    const length = view.getUint32(at, true);
    if (length < 16 || at + length > bytes.byteLength) return { messages, whole: false };
    const body = bytes.subarray(at + 16, at + length);
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body,
      view: new DataView(body.buffer, body.byteOffset, body.byteLength),
    });
    at += (length + 3) & ~3;
  }
  return { messages, whole: at >= bytes.byteLength };
}

function attributes(bytes: Uint8Array): Map<number, Uint8Array> {
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

function u32(bytes: Uint8Array | undefined): number | null {
  if (bytes?.byteLength !== 4) return null;
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}
