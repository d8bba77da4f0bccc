// SPDX-License-Identifier: Apache-2.0
// Which address elements (a prefix, or a set of prefixes) contain an address: disjoint intervals, found by binary search, each
// owned by its longest prefix, whose parents are the shorter prefixes around it.
import type { PrefixRow } from '@detour/contracts';
import { isMappedV4 } from '@detour/core';

interface Span<T> {
  readonly start: T;
  readonly end: T; // exclusive
  readonly node: number;
}
interface Intervals<T> {
  readonly starts: T[];
  readonly owners: number[];
}
interface Node {
  parent: number;
  readonly elements: number[];
}

const NOTHING = -1;

/** Collects elements, then answers which of them contain an address. Cost: one binary search, then the nesting depth. */
export class AddressIndex {
  readonly #nodes: Node[] = [];
  readonly #v4: V4Intervals;
  readonly #v6: V6Intervals;

  /** `elements[i]` are the prefixes of element i. */
  constructor(elements: readonly (readonly PrefixRow[])[]) {
    const v4 = new Map<string, Span<number>>();
    const v6 = new Map<string, Span<bigint>>();
    for (const [element, prefixes] of elements.entries()) {
      for (const prefix of prefixes) this.#add(element, prefix, v4, v6);
    }
    this.#v4 = new V4Intervals(this.#sweep([...v4.values()].sort(byStart)));
    this.#v6 = new V6Intervals(this.#sweep([...v6.values()].sort(byStart)));
  }

  #add(
    element: number,
    prefix: PrefixRow,
    v4: Map<string, Span<number>>,
    v6: Map<string, Span<bigint>>,
  ): void {
    const spans: Map<string, Span<number> | Span<bigint>> = isV4(prefix) ? v4 : v6;
    const key = prefixKey(prefix);
    const known = spans.get(key);
    if (known !== undefined) {
      this.#nodes[known.node]?.elements.push(element);
      return;
    }
    const node = this.#nodes.push({ parent: NOTHING, elements: [element] }) - 1;
    if (isV4(prefix)) {
      const size = 2 ** (128 - prefix.bits);
      const start = Math.floor(wordAt(prefix.address, 12) / size) * size;
      v4.set(key, { start, end: start + size, node });
    } else {
      const hostBits = BigInt(128 - prefix.bits);
      const start = (toBigInt(prefix.address) >> hostBits) << hostBits;
      v6.set(key, { start, end: start + (1n << hostBits), node });
    }
  }

  /** Sorted, properly nested spans to disjoint intervals; sets each node's parent on the way. */
  #sweep<T extends number | bigint>(spans: readonly Span<T>[]): Intervals<T> {
    const out: Intervals<T> = { starts: [], owners: [] };
    const open: Span<T>[] = [];
    const emit = (start: T, owner: number) => {
      if (out.starts.at(-1) === start) out.owners[out.owners.length - 1] = owner;
      else {
        out.starts.push(start);
        out.owners.push(owner);
      }
    };
    const closeUntil = (start: T | null) => {
      for (let top = open.at(-1); top && (start === null || top.end <= start); top = open.at(-1)) {
        open.pop();
        emit(top.end, open.at(-1)?.node ?? NOTHING);
      }
    };
    for (const span of spans) {
      closeUntil(span.start);
      const node = this.#nodes[span.node];
      if (node) node.parent = open.at(-1)?.node ?? NOTHING;
      emit(span.start, span.node);
      open.push(span);
    }
    closeUntil(null);
    return out;
  }

  /** Appends to `out` every element that contains the address (twice, if two of its prefixes do). */
  collect(address: Uint8Array, out: number[]): void {
    const start = isMappedV4(address) ? this.#v4.find(wordAt(address, 12)) : this.#v6.find(address);
    for (let at = start; at >= 0; ) {
      const node = this.#nodes[at];
      if (node === undefined) return;
      for (const element of node.elements) out.push(element);
      at = node.parent;
    }
  }
}

/** Intervals over 32-bit addresses, with a table over the leading bits so that the search stays short. */
class V4Intervals {
  readonly #starts: Uint32Array;
  readonly #owners: Int32Array;
  readonly #first: Uint32Array;
  readonly #shift: number;

  constructor({ starts, owners }: Intervals<number>) {
    const count = starts.at(-1) === 2 ** 32 ? starts.length - 1 : starts.length;
    this.#starts = Uint32Array.from(starts.slice(0, count));
    this.#owners = Int32Array.from(owners.slice(0, count));
    const bits = Math.min(16, Math.ceil(Math.log2(count + 1)) + 1);
    this.#shift = 32 - bits;
    // first[k]: number of intervals that start before bucket k
    this.#first = new Uint32Array(2 ** bits + 1);
    for (let k = 0, i = 0; k <= 2 ** bits; k++) {
      while (i < count && (this.#starts[i] ?? 0) < k * 2 ** this.#shift) i++;
      this.#first[k] = i;
    }
  }

  find(address: number): number {
    const bucket = address >>> this.#shift;
    let low = this.#first[bucket] ?? 0;
    let high = this.#first[bucket + 1] ?? 0;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] ?? 0) <= address) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? NOTHING : (this.#owners[low - 1] ?? NOTHING);
  }
}

/** Intervals over 128-bit addresses, four words a start. */
class V6Intervals {
  readonly #starts: Uint32Array;
  readonly #owners: Int32Array;

  constructor({ starts, owners }: Intervals<bigint>) {
    const count = starts.at(-1) === 1n << 128n ? starts.length - 1 : starts.length;
    this.#starts = new Uint32Array(4 * count);
    for (let i = 0; i < count; i++) {
      for (let word = 0; word < 4; word++) {
        this.#starts[4 * i + word] = Number(((starts[i] ?? 0n) >> BigInt(96 - 32 * word)) & 0xffffffffn);
      }
    }
    this.#owners = Int32Array.from(owners.slice(0, count));
  }

  find(address: Uint8Array): number {
    if (this.#owners.length === 0) return NOTHING;
    const words = [wordAt(address, 0), wordAt(address, 4), wordAt(address, 8), wordAt(address, 12)];
    let low = 0;
    let high = this.#owners.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      let order = 0;
      for (let word = 0; word < 4 && order === 0; word++) {
        order = (this.#starts[4 * middle + word] ?? 0) - (words[word] ?? 0);
      }
      if (order <= 0) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? NOTHING : (this.#owners[low - 1] ?? NOTHING);
  }
}

/** Start first; of two with one start the shorter prefix, which contains the other. */
function byStart<T extends number | bigint>(x: Span<T>, y: Span<T>): number {
  if (x.start !== y.start) return x.start < y.start ? -1 : 1;
  return x.end > y.end ? -1 : x.end < y.end ? 1 : 0;
}

/** An IPv4 prefix: mapped, and at least as long as the mapping itself. Others match IPv6 alone (prefixMatches). */
export function isV4(prefix: PrefixRow): boolean {
  return prefix.bits >= 96 && isMappedV4(prefix.address);
}

/** A text by which equal prefixes are equal, whatever their host bits. */
export function prefixKey(prefix: PrefixRow): string {
  const { address, bits } = prefix;
  const words = isV4(prefix) ? 3 : 0;
  let key = isV4(prefix) ? '4/' : '6/';
  for (let word = words; word < 4; word++) {
    const keep = Math.min(32, Math.max(0, bits - 32 * word));
    const size = 2 ** (32 - keep);
    key += `${Math.floor(wordAt(address, 4 * word) / size)}.`;
  }
  return `${key}/${bits}`;
}

function wordAt(address: Uint8Array, at: number): number {
  return (
    (((address[at] ?? 0) << 24) |
      ((address[at + 1] ?? 0) << 16) |
      ((address[at + 2] ?? 0) << 8) |
      (address[at + 3] ?? 0)) >>>
    0
  );
}

function toBigInt(address: Uint8Array): bigint {
  let value = 0n;
  for (let at = 0; at < 16; at += 4) value = (value << 32n) | BigInt(wordAt(address, at));
  return value;
}
