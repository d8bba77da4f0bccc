// SPDX-License-Identifier: Apache-2.0
import type { FlowRecord } from '@detour/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pin } from './testdata.js';
import { settlePin, winnerOf } from './winner.js';

describe('winnerOf', () => {
  it('prefers the higher generation, then the lower path', () => {
    expect(winnerOf(pin(1, 1), pin(9, 2))).toEqual(pin(9, 2));
    expect(winnerOf(pin(9, 2), pin(1, 1))).toEqual(pin(9, 2));
    expect(winnerOf(pin(4), pin(3))).toEqual(pin(3));
    expect(winnerOf(pin(3), pin(4))).toEqual(pin(3));
  });

  it('of the same path: a drop, then what is steered, then what passes; then a began it', () => {
    const drop: FlowRecord = { ...pin(3), programmed: 'drop' };
    const allow: FlowRecord = { ...pin(3), programmed: 'allow' };
    const byB: FlowRecord = { ...pin(3), initiatorIsB: true };
    for (const [better, worse] of [
      [drop, pin(3)],
      [pin(3), allow],
      [drop, allow],
      [pin(3), byB],
      [byB, allow],
    ] as const) {
      expect(winnerOf(better, worse)).toBe(better);
      expect(winnerOf(worse, better)).toBe(better);
    }
  });

  it('is an order: who wins among many does not depend on who meets first', () => {
    const record = fc.record({
      gen: fc.integer({ min: 1, max: 3 }),
      path: fc.integer({ min: 1, max: 3 }),
      initiatorIsB: fc.boolean(),
      programmed: fc.constantFrom(undefined, 'allow' as const, 'drop' as const),
    });
    const records = fc
      .array(record, { minLength: 2, maxLength: 6 })
      .chain((all) =>
        fc.tuple(
          fc.constant(all),
          fc.shuffledSubarray(all, { minLength: all.length, maxLength: all.length }),
        ),
      );
    const made = ({
      programmed,
      ...rest
    }: typeof record extends fc.Arbitrary<infer R> ? R : never): FlowRecord => ({
      ...rest,
      chain: 2,
      ...(programmed === undefined ? {} : { programmed }),
    });
    fc.assert(
      fc.property(records, ([one, other]) => {
        const winner = (all: typeof one) => all.map(made).reduce(winnerOf);
        expect(winner(one)).toEqual(winner(other));
      }),
      { numRuns: 20_000 },
    );
  });
});

describe('settlePin', () => {
  const here = { usable: true, beganHere: false };
  it('agrees, adopts the winner, or writes what wins as it is', () => {
    expect(settlePin(pin(3), pin(3), here)).toEqual({ kind: 'agreed' });
    expect(settlePin(pin(3), pin(2), here)).toEqual({ kind: 'adopt', record: pin(2) });
    expect(settlePin(pin(2), pin(3), here)).toEqual({ kind: 'write', record: pin(2), expectedGen: 1 });
    expect(settlePin(pin(2, 4), pin(2, 3), here)).toEqual({
      kind: 'write',
      record: pin(2, 4),
      expectedGen: 3,
    });
    expect(settlePin(pin(2, 3), pin(2, 4), here)).toEqual({ kind: 'adopt', record: pin(2, 4) });
  });
  it('takes the next generation where what won cannot be used here, or is of an earlier connection', () => {
    const next = { kind: 'write', record: pin(3, 8), expectedGen: 7 };
    expect(settlePin(pin(3, 2), pin(1, 7), { usable: false, beganHere: false })).toEqual(next);
    expect(settlePin(pin(3, 2), pin(1, 7), { usable: true, beganHere: true })).toEqual(next);
    // The same generation is of the same beginning: the rule decides
    expect(settlePin(pin(3, 2), pin(1, 2), { usable: true, beganHere: true })).toEqual({
      kind: 'adopt',
      record: pin(1, 2),
    });
  });

  it('leaves the winner of all, whoever meets whom in whatever order', () => {
    const GATEWAYS = 4;
    const record = fc.record({ gen: fc.integer({ min: 1, max: 3 }), path: fc.integer({ min: 1, max: 4 }) });
    const start = fc.array(record, { minLength: GATEWAYS, maxLength: GATEWAYS });
    const turns = fc.array(fc.nat(GATEWAYS - 1), { maxLength: 40 });
    fc.assert(
      fc.property(start, turns, (pins, order) => {
        const sides = pins.map(({ gen, path }) => pin(path, gen));
        const winner = sides.reduce(winnerOf);
        let store: FlowRecord | null = null;
        // In their own order first, then each once more: who was first meets what came later
        for (const at of [...order, ...sides.keys(), ...sides.keys()]) {
          const ours: FlowRecord = sides[at] ?? expect.fail();
          if (store === null) store = ours;
          const found = settlePin(ours, store, here);
          if (found.kind === 'adopt') sides[at] = found.record;
          if (found.kind === 'write') store = sides[at] = found.record;
        }
        expect([store, ...sides]).toEqual([winner, ...sides.map(() => winner)]);
      }),
      { numRuns: 50_000 },
    );
  });
});
