// SPDX-License-Identifier: Apache-2.0
// Carries bytes from one layout to another by the names of fields: what only the old one has is left behind, what only the new one has is
// zero, and a number that does not fit any more is said. Pure. Numbers are little-endian, as on every machine that the datapath runs on.
import { Fault } from '@detour/core';
import type { Layout } from './btf.js';

/** Writes `to.size` bytes into `into`; false when a value does not fit there, and the bytes are then of no use. */
export type Conversion = (from: Uint8Array, into: Uint8Array) => boolean;

interface Move {
  readonly from: number;
  readonly to: number;
  /** Bytes that both have. */
  readonly len: number;
  /** Bytes behind them that only the old one has: they must be zero. */
  readonly over: number;
}

/** @throws Fault `invalid` naming the field that is a number in one of them and a struct or an array in the other. */
export function planConversion(from: Layout, to: Layout): Conversion {
  const moves = merged(movesOf(from, to, 0, 0, ''));
  return (source, into) => {
    into.fill(0);
    for (const { from: at, to: target, len, over } of moves) {
      into.set(source.subarray(at, at + len), target);
      for (let i = at + len; i < at + len + over; i++) if (source[i] !== 0) return false;
    }
    return true;
  };
}

function movesOf(from: Layout, to: Layout, at: number, target: number, path: string): Move[] {
  if (from.kind === 'scalar' && to.kind === 'scalar') {
    const len = Math.min(from.size, to.size);
    return [{ from: at, to: target, len, over: from.size - len }];
  }
  if (from.kind === 'array' && to.kind === 'array') {
    const count = Math.min(from.count, to.count);
    const each = Array.from({ length: count }, (_, i) =>
      movesOf(from.of, to.of, at + i * from.of.size, target + i * to.of.size, `${path}[${i}]`),
    );
    const rest = {
      from: at + count * from.of.size,
      to: target,
      len: 0,
      over: (from.count - count) * from.of.size,
    };
    return [...each.flat(), rest];
  }
  if (from.kind === 'struct' && to.kind === 'struct')
    return to.fields.flatMap((field) => {
      const old = from.fields.find(({ name }) => name === field.name);
      if (old === undefined) return [];
      return movesOf(old.layout, field.layout, at + old.at, target + field.at, `${path}.${field.name}`);
    });
  throw new Fault(
    'invalid',
    `${path === '' ? 'the whole' : path.replace(/^\./, '')} was ${from.kind} and is ${to.kind}`,
  );
}

/** Neighbours in one piece: most of what does not change is copied in a few. */
function merged(moves: readonly Move[]): Move[] {
  const out: Move[] = [];
  for (const move of moves) {
    if (move.len === 0 && move.over === 0) continue;
    const last = out.at(-1);
    const joins =
      last !== undefined &&
      last.over === 0 &&
      last.from + last.len === move.from &&
      last.to + last.len === move.to;
    if (joins) out[out.length - 1] = { ...last, len: last.len + move.len, over: move.over };
    else out.push(move);
  }
  return out;
}
