// SPDX-License-Identifier: Apache-2.0
// Which address elements (a prefix, or a set of prefixes) contain an address: disjoint intervals, found by binary search, each
// owned by its longest prefix, whose parents are the shorter prefixes around it.
import type { PrefixRow } from '@detour/contracts';
import { isMappedV4 } from '@detour/core';

interface Span<T> {
  readonly start: T;
  readonly end: T; // exclusive
  readonly element: number;
}
interface Intervals<T> {
  readonly starts: T[];
  readonly owners: number[];
}
/** A distinct prefix. */
interface Node {
  readonly parent: number;
  readonly elements: number[];
}

const NOTHING = -1;

/** Answers which of numbered elements contain an address. Cost: one binary search, then the nesting depth. */
export class AddressIndex {
  readonly #nodes: Node[] = [];
  readonly #v4: V4Intervals;
  readonly #v6: V6Intervals;

  /** `elements[i]` are the prefixes of element i. */
  constructor(elements: readonly (readonly PrefixRow[])[]) {
    const v4: Span<number>[] = [];
    const v6: Span<bigint>[] = [];
    for (const [element, prefixes] of elements.entries()) {
      for (const { address, bits } of prefixes) {
        if (isV4({ address, bits })) {
          const size = 2 ** (128 - bits);
          const start = Math.floor(wordAt(address, 12) / size) * size;
          v4.push({ start, end: start + size, element });
        } else {
          const hostBits = BigInt(128 - bits);
          const start = (toBigInt(address) >> hostBits) << hostBits;
          v6.push({ start, end: start + (1n << hostBits), element });
        }
      }
    }
    this.#v4 = new V4Intervals(this.#sweep(v4.sort(byStart)));
    this.#v6 = new V6Intervals(this.#sweep(v6.sort(byStart)));
  }

  /** Sorted, properly nested spans to disjoint intervals, each owned by the node of its innermost span. */
  #sweep<T extends number | bigint>(spans: readonly Span<T>[]): Intervals<T> {
    const out: Intervals<T> = { starts: [], owners: [] };
    const open: { span: Span<T>; node: number }[] = [];
    const emit = (start: T, owner: number) => {
      if (out.starts[out.starts.length - 1] === start) out.owners[out.owners.length - 1] = owner;
      else {
        out.starts.push(start);
        out.owners.push(owner);
      }
    };
    const innermost = () => open[open.length - 1]?.node ?? NOTHING;
    const closeUntil = (start: T | null) => {
      for (;;) {
        const top = open[open.length - 1];
        if (top === undefined || (start !== null && top.span.end > start)) return;
        open.pop();
        emit(top.span.end, innermost());
      }
    };
    for (const span of spans) {
      closeUntil(span.start);
      const top = open[open.length - 1];
      if (top !== undefined && top.span.start === span.start && top.span.end === span.end) {
        this.#nodes[top.node]?.elements.push(span.element); // one prefix of several elements
        continue;
      }
      const node = this.#nodes.push({ parent: innermost(), elements: [span.element] }) - 1;
      emit(span.start, node);
      open.push({ span, node });
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

/** A value by which equal prefixes are equal, whatever their host bits. */
export function prefixKey(prefix: PrefixRow): number | string {
  const { address, bits } = prefix;
  if (isV4(prefix)) {
    const size = 2 ** (128 - bits);
    return Math.floor(wordAt(address, 12) / size) * size * 64 + (bits - 96);
  }
  let key = '';
  for (let word = 0; word < 4; word++) {
    const size = 2 ** (32 - Math.min(32, Math.max(0, bits - 32 * word)));
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
