// SPDX-License-Identifier: Apache-2.0
/**
 * Which ports of SNAT addresses are given away: one flow each towards the same remote end, and used again towards others (RFC 4787 4.1, RFC 7857 3).
 *
 * A flow keeps its own port where that is free, else it gets one by chance (RFC 6056 3.3.1). A port that was given back rests for a while, so that
 * late packets of one flow do not reach another (RFC 5382 8). ICMP echo has its identifier for a port; protocols without ports have the one
 * port 0. Bounded: ports of one remote end by their number, all together by `limit`.
 */
import { PROTO } from './flow.js';

/** What a port is given for; addresses as numbers. */
export interface SnatUse {
  readonly vrf: number;
  readonly proto: number;
  readonly address: number;
  readonly remote: number;
  /** 0 for ICMP and protocols without ports. */
  readonly remotePort: number;
}

export interface SnatPortsOptions {
  readonly limit: number;
  readonly restMs: number;
  readonly nowMs: () => number;
  /** As Math.random. */
  readonly random: () => number;
}

export const SNAT_LEAST_PORT = 1024;
const LAST_PORT = 65_535;
const TRIES = 16;
const LIVE = -1;

export class SnatPorts {
  /** Per remote end: port → LIVE, or when it was given back. */
  private readonly groups = new Map<string, Map<number, number>>();
  private live = 0;

  constructor(private readonly options: SnatPortsOptions) {}

  get inUse(): number {
    return this.live;
  }

  /** A port for a flow whose own is `own`; null when none is free. */
  take(use: SnatUse, own: number): number | null {
    if (this.live >= this.options.limit) return null;
    const id = groupId(use);
    const group = this.groups.get(id) ?? new Map<number, number>();
    const port = this.choose(group, rangeOf(use.proto, own), own);
    if (port === null) return null;
    group.set(port, LIVE);
    this.groups.set(id, group);
    this.live++;
    return port;
  }

  /** One that is in use already, as a predecessor left it; false when another flow has it. */
  adopt(use: SnatUse, port: number): boolean {
    const id = groupId(use);
    const group = this.groups.get(id) ?? new Map<number, number>();
    if (group.get(port) === LIVE) return false;
    group.set(port, LIVE);
    this.groups.set(id, group);
    this.live++;
    return true;
  }

  /** Its flow is gone. */
  release(use: SnatUse, port: number): void {
    const group = this.groups.get(groupId(use));
    if (group?.get(port) !== LIVE) return;
    group.set(port, this.options.nowMs());
    this.live--;
  }

  /** Forgets what has rested long enough. */
  expire(): void {
    for (const [id, group] of this.groups) {
      for (const port of group.keys()) if (this.isFree(group, port)) group.delete(port);
      if (group.size === 0) this.groups.delete(id);
    }
  }

  private choose(
    group: ReadonlyMap<number, number>,
    { first, last }: { readonly first: number; readonly last: number },
    own: number,
  ): number | null {
    if (own >= first && own <= last && this.isFree(group, own)) return own;
    const count = last - first + 1;
    let start = first;
    for (let i = 0; i < TRIES; i++) {
      start = first + Math.floor(this.options.random() * count);
      if (this.isFree(group, start)) return start;
    }
    for (let i = 1; i < count; i++) {
      const port = first + ((start - first + i) % count);
      if (this.isFree(group, port)) return port;
    }
    return null;
  }

  private isFree(group: ReadonlyMap<number, number>, port: number): boolean {
    const since = group.get(port);
    return since === undefined || (since !== LIVE && this.options.nowMs() - since >= this.options.restMs);
  }
}

function rangeOf(proto: number, own: number): { first: number; last: number } {
  if (proto === PROTO.tcp || proto === PROTO.udp) return { first: SNAT_LEAST_PORT, last: LAST_PORT };
  if (proto === PROTO.icmp && own !== 0) return { first: 1, last: LAST_PORT };
  return { first: 0, last: 0 };
}

function groupId({ vrf, proto, address, remote, remotePort }: SnatUse): string {
  return `${vrf} ${proto} ${address} ${remote} ${remotePort}`;
}

const CANDIDATES = 16;

/**
 * The ports that a flow may get of an address that several gateways share, in the order in which each of them tries: its own, then by chance that
 * is the same on all (RFC 6056 3.3.1; `chance` is a number below 2^32 that nobody outside can foretell).
 */
export function snatCandidates(proto: number, own: number, chance: number): number[] {
  const { first, last } = rangeOf(proto, own);
  if (last === 0) return [0];
  const ports = new Set(own >= first && own <= last ? [own] : []);
  let state = chance >>> 0 || 1;
  while (ports.size < CANDIDATES) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5; // xorshift32: every state but 0 comes, so that this ends
    ports.add(first + ((state >>> 0) % (last - first + 1)));
  }
  return [...ports];
}
