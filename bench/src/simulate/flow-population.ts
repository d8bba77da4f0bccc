// SPDX-License-Identifier: Apache-2.0
/**
 * Ten million flows as two arrays: each one's selection hash and the path that it is pinned to.
 *
 * A flow is a tuple once, when it begins: then it is normalised and hashed by the functions of packages/core, and takes the path of its slot.
 * Afterwards it moves only as datapath/lib/path.h moves it: its path is down → the path's heir, else the path of its slot.
 * Flows of a chain lie side by side, so a flow's chain is known by its place.
 */
import { type FlowKey, type HashKey, normaliseTuple, PROTO, selectionHash } from '@detour/core';
import type { TableInForce } from './gateway-tables.js';
import type { Random } from './random.js';
import type { World } from './world.js';

/** No path takes new flows: the flow is dropped, and begins again with the next table that has one. */
const NO_PATH = 0;

export interface FlowPopulationOptions {
  readonly world: World;
  readonly random: Random;
  /** The secret of the revision. */
  readonly secret: HashKey;
}

export class FlowPopulation {
  /** Flow → path number; 0: none. */
  readonly paths: Uint16Array;
  /** Path number → how many flows are pinned to it. */
  readonly liveByPath: Uint32Array;
  /** Path number → how many flows have begun on it since the last call of `beginCount`. */
  private begun: Uint32Array;
  private readonly hashes: Uint32Array;
  private readonly begins = new Map<number, { readonly from: number; readonly to: number }>();
  private readonly drawTuple: () => { readonly key: FlowKey; readonly norm: 0 | 1 };

  constructor(private readonly options: FlowPopulationOptions) {
    let from = 0;
    for (const { number, flows } of options.world.chains) {
      this.begins.set(number, { from, to: from + flows });
      from += flows;
    }
    this.paths = new Uint16Array(from);
    this.hashes = new Uint32Array(from);
    this.liveByPath = new Uint32Array(options.world.paths + 1);
    this.liveByPath[NO_PATH] = from;
    this.begun = new Uint32Array(options.world.paths + 1);
    this.drawTuple = tupleSource(options.random);
  }

  /** The places of a chain's flows: from, and the first that is not. */
  rangeOf(chain: number): { readonly from: number; readonly to: number } {
    return this.begins.get(chain) ?? { from: 0, to: 0 };
  }

  /** Every flow of the chain begins. */
  beginAll(table: TableInForce): void {
    const { from, to } = this.rangeOf(table.chain.number);
    for (let flow = from; flow < to; flow++) this.begin(flow, table);
  }

  /** So many flows of the chain end, whichever, and others begin in their places. */
  turnOver(table: TableInForce, count: number): void {
    const { from, to } = this.rangeOf(table.chain.number);
    for (let i = 0; i < count; i++) this.begin(from + this.options.random.below(to - from), table);
  }

  /** Flows whose path is down go on as the datapath has them do; all others stay. */
  renew({ chain, expanded, heirs }: TableInForce): void {
    const down = new Uint8Array(this.liveByPath.length);
    for (const { path, state } of expanded.paths) if (state === 'down') down[path] = 1;
    down[NO_PATH] = 1;
    const { from, to } = this.rangeOf(chain.number);
    for (let flow = from; flow < to; flow++) {
      const path = this.paths[flow] ?? NO_PATH;
      if (down[path] === 0) continue;
      this.pin(flow, heirs.get(path) ?? this.slotOf(flow, expanded.slots));
    }
  }

  /** What has begun since the last call, by path number. */
  takeBegun(): Uint32Array {
    const counted = this.begun;
    this.begun = new Uint32Array(counted.length);
    return counted;
  }

  private begin(flow: number, { expanded }: TableInForce): void {
    const { key, norm } = this.drawTuple();
    this.hashes[flow] = selectionHash(key, expanded.affinity, norm === 1, this.options.secret);
    const path = this.slotOf(flow, expanded.slots);
    this.begun[path] = (this.begun[path] ?? 0) + 1;
    this.pin(flow, path);
  }

  private slotOf(flow: number, slots: Uint16Array): number {
    return slots.length === 0 ? NO_PATH : (slots[(this.hashes[flow] ?? 0) % slots.length] ?? NO_PATH);
  }

  private pin(flow: number, path: number): void {
    const before = this.paths[flow] ?? NO_PATH;
    this.liveByPath[before] = (this.liveByPath[before] ?? 0) - 1;
    this.liveByPath[path] = (this.liveByPath[path] ?? 0) + 1;
    this.paths[flow] = path;
  }
}

const SERVER_PORTS = [443, 443, 443, 80, 53, 22, 8443, 25] as const;
const EPHEMERAL = { first: 32_768, count: 28_232 } as const;

/** Tuples of clients in 10/8 and 2001:db8::/32, one in four of them IPv6, with servers of 198.18.0.0/15 and 2001:db8:f::/48. The key is only good until the next call. */
export function tupleSource(random: Random): () => { readonly key: FlowKey; readonly norm: 0 | 1 } {
  const pair = () => ({ src: new Uint8Array(16), dst: new Uint8Array(16) });
  const [four, six] = [pair(), pair()];
  for (const address of [four.src, four.dst]) address.fill(0xff, 10, 12);
  four.src[12] = 10;
  four.dst.set([198, 18], 12);
  for (const address of [six.src, six.dst]) address.set([0x20, 0x01, 0x0d, 0xb8]);
  six.dst[5] = 0x0f;
  const setLast3 = (address: Uint8Array, bits: number) => {
    address[13] = bits >>> 16;
    address[14] = bits >>> 8;
    address[15] = bits;
  };
  return () => {
    const { src, dst } = random.below(4) === 0 ? six : four;
    setLast3(src, random.next());
    setLast3(dst, (18 << 16) | random.below(4_096));
    const dport = SERVER_PORTS[random.below(SERVER_PORTS.length)] ?? SERVER_PORTS[0];
    const proto = dport === 53 ? PROTO.udp : PROTO.tcp;
    const sport = EPHEMERAL.first + random.below(EPHEMERAL.count);
    return normaliseTuple({ vrf: 1, proto, src, dst, sport, dport });
  };
}
