// SPDX-License-Identifier: Apache-2.0
import { RuleAction, RuleRow } from '@detour/contracts';
import { parseAddress, type Tuple } from '@detour/core';
import { LINE_WORDS, lookupEitherWay } from '@detour/tables';
import { describe, expect, it } from 'vitest';
import { RuleHalves } from './rule-halves.js';

/** Two halves as plain memory. */
function memoryOf(lines: number) {
  const words = new Uint32Array(2 * lines * LINE_WORDS);
  let live: 0 | 1 | 2 = 0;
  const halves = new RuleHalves({ words, lines, liveHalf: () => live }, () => {});
  const copyOf = (half: 1 | 2) => words.slice((half - 1) * lines * LINE_WORDS, half * lines * LINE_WORDS);
  const flip = (rows: readonly RuleRow[]) => {
    const half = halves.halfOf(rows);
    if (half === 0) throw new Error('not staged');
    live = half;
    return half;
  };
  return { halves, copyOf, flip };
}

const bytes = (...tail: number[]) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...tail);
const rule = (number: number, change: Partial<RuleRow> = {}) =>
  RuleRow.fromPartial({
    ...{ number, vrf: 1, priority: 5, action: RuleAction.ALLOW },
    sources: [{ address: bytes(10, 0, number >> 8, number & 255), bits: 128 }],
    ...change,
  });
const rules = (count: number) => Array.from({ length: count }, (_, i) => rule(i + 1));
const from = (number: number): Tuple => ({
  ...{ vrf: 1, dst: parseAddress('192.0.2.1') ?? bytes(), sport: 1, dport: 2, proto: 6 },
  src: bytes(10, 0, number >> 8, number & 255),
});

describe('RuleHalves', () => {
  it('stages a few changes at once, in the half that is not live, and leaves what is live as it was', () => {
    const { halves, copyOf, flip } = memoryOf(512);
    const first = rules(50);
    expect(halves.stageAtOnce(first)).toBe(true);
    const half = flip(first);
    const before = copyOf(half);
    const second = first.map((row) => (row.number === 7 ? rule(7, { action: RuleAction.DROP }) : row));
    expect(halves.stageAtOnce(second)).toBe(true);
    expect(halves.halfOf(second)).toBe(3 - half);
    expect(copyOf(half)).toEqual(before);
    const action = (rows: readonly RuleRow[]) => halves.rules(rows)?.lookup(from(7), 1)?.action;
    expect([action(first), action(second)]).toEqual(['allow', 'drop']);
    expect(halves.stageAtOnce(second)).toBe(true);
  });

  it('many take their turns; what waits meanwhile has its own', async () => {
    const { halves, flip } = memoryOf(32_768);
    const many = rules(5_000);
    expect(halves.stageAtOnce(many)).toBe(false);
    let turns = 0;
    const counting = setInterval(() => turns++, 0);
    const staged = halves.stage(many);
    expect(halves.stageAtOnce(rules(3))).toBe(false); // one after the other
    await staged;
    clearInterval(counting);
    expect(turns).toBeGreaterThan(5);
    flip(many);
    await halves.mirror();
    expect(halves.rules(many)?.lookup(from(4_321), 1)?.rule).toBe(4_321);
  });

  it('after mirror, a change writes its own lines and no others', async () => {
    const { halves, copyOf, flip } = memoryOf(32_768);
    const many = rules(5_000);
    await halves.stage(many);
    const half = flip(many);
    await halves.mirror();
    const other = half === 1 ? 2 : 1;
    const before = copyOf(other);
    const changed = many.map((row) => (row.number === 1_001 ? rule(1_001, { priority: 9 }) : row));
    expect(halves.stageAtOnce(changed)).toBe(true);
    const after = copyOf(other);
    const lines = new Set<number>();
    for (let i = 0; i < after.length; i++) if (after[i] !== before[i]) lines.add(Math.floor(i / LINE_WORDS));
    expect(lines.size).toBeGreaterThan(0);
    expect(lines.size).toBeLessThan(10);
  });

  it('refuses what has no room, saying how much it needs; the next version is staged all the same', async () => {
    const { halves, flip } = memoryOf(256);
    const few = rules(20);
    halves.stageAtOnce(few);
    flip(few);
    await expect(halves.stage(rules(3_000))).rejects.toThrow(
      /needs \d+ lines of 64 bytes, \d+ more than there are: set DETOUR_RULE_LINES to \d+/,
    );
    expect(halves.rules(few)?.lookup(from(20), 1)?.rule).toBe(20);
    const fewer = rules(10);
    await halves.stage(fewer);
    const reader = halves.rules(fewer);
    expect(reader?.lookup(from(10), 1)?.rule).toBe(10);
    expect(reader && lookupEitherWay(reader, from(11), 1, { syn: true })).toBeNull();
  });
});
