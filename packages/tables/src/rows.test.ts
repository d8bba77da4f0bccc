// SPDX-License-Identifier: Apache-2.0
import { RuleAction, RuleRow } from '@detour/contracts';
import { parsePrefix } from '@detour/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyDelta, diffRules, digestRules } from './rows.js';
import { validateRules } from './validate-rules.js';

function prefix(text: string) {
  const parsed = parsePrefix(text);
  if (parsed === null) throw new Error(`${text} is no prefix`);
  return { ...parsed };
}
const table = fc
  .uniqueArray(fc.integer({ min: 1, max: 30 }), { maxLength: 15 })
  .chain((numbers) =>
    fc
      .array(fc.integer({ min: 0, max: 2 }), { minLength: numbers.length, maxLength: numbers.length })
      .map((priorities) =>
        numbers.map((number, i) =>
          RuleRow.fromPartial({ number, vrf: 1, priority: priorities[i] ?? 0, action: 1 }),
        ),
      ),
  );

describe('rule tables as rows', () => {
  it('a delta turns the old table into the new one, digest for digest', () => {
    fc.assert(
      fc.property(table, table, (before, after) => {
        const delta = diffRules(before, after);
        const made = applyDelta(before, { ...delta, full: false });
        expect(digestRules(made)).toEqual(digestRules(after));
        expect(made.length).toBe(after.length);
        expect(diffRules(made, after)).toEqual({ upserts: [], removes: [] });
        const full = applyDelta(before, { upserts: after, removes: [], full: true });
        expect(digestRules(full)).toEqual(digestRules(after));
      }),
    );
  });

  it('a delta names just what changed', () => {
    const rule = (number: number, priority: number) =>
      RuleRow.fromPartial({ number, priority, vrf: 1, action: 1 });
    const delta = diffRules([rule(1, 1), rule(2, 1), rule(3, 1)], [rule(4, 1), rule(3, 2), rule(1, 1)]);
    expect(delta.upserts.map(({ number }) => number)).toEqual([3, 4]);
    expect(delta.removes).toEqual([2]);
  });

  it('the digest does not depend on the order of rows and lists, host bits or repetitions', () => {
    const one = RuleRow.fromPartial({
      number: 1,
      vrf: 1,
      sources: [prefix('10.1.2.3/16'), prefix('10.0.0.0/24')],
      protocols: [17, 6],
      destinationPorts: [
        { first: 443, last: 443 },
        { first: 80, last: 80 },
      ],
      appliedTo: [2, 1],
      action: RuleAction.ALLOW,
    });
    const same = {
      ...one,
      sources: [prefix('10.0.0.0/24'), prefix('10.1.0.0/16'), prefix('10.1.0.0/16')],
      protocols: [6, 17, 6],
      destinationPorts: [...one.destinationPorts].reverse(),
      appliedTo: [1, 2],
    };
    const other = RuleRow.fromPartial({ number: 2, vrf: 1, action: RuleAction.DROP });
    expect(digestRules([one, other])).toEqual(digestRules([other, same]));
    for (const change of [
      { priority: 1 },
      { name: 'x' },
      { appliedTo: [1] },
      { chain: 3 },
      { dropUnresolved: true },
    ])
      expect(digestRules([{ ...one, ...change }])).not.toEqual(digestRules([one]));
  });
});

describe('validateRules', () => {
  const rule = (extra: Parameters<typeof RuleRow.fromPartial>[0]) =>
    RuleRow.fromPartial({ number: 7, name: 'web', vrf: 1, action: RuleAction.ALLOW, ...extra });
  it('takes sound rules', () => {
    expect(
      validateRules([rule({ sources: [prefix('::/0')], destinationPorts: [{ first: 0, last: 65535 }] })]).ok,
    ).toBe(true);
    expect(validateRules([rule({ action: RuleAction.CHAIN, chain: 1 })]).ok).toBe(true);
  });
  it.each<[Parameters<typeof RuleRow.fromPartial>[0], RegExp]>([
    [{ number: 0 }, /number 0/],
    [{ number: 131072 }, /number 131072/],
    [{ vrf: 0 }, /VRF 0/],
    [{ protocols: [256] }, /protocol 256/],
    [{ appliedTo: [256] }, /port number 256/],
    [{ sources: [{ address: new Uint8Array(4), bits: 8 }] }, /source address has 4 bytes/],
    [{ destinations: [{ address: new Uint8Array(16), bits: 129 }] }, /destination prefix length 129/],
    [{ sourcePorts: [{ first: 9, last: 8 }] }, /source ports 9-8/],
    [{ destinationPorts: [{ first: 0, last: 65536 }] }, /destination ports 0-65536/],
    [{ action: RuleAction.UNSPECIFIED }, /no action/],
    [{ action: RuleAction.CHAIN }, /names no chain/],
    [{ action: RuleAction.DROP, chain: 2 }, /chain 2 beside/],
  ])('refuses %o', (extra, why) => {
    const result = validateRules([rule(extra)]);
    expect(result).toMatchObject({ ok: false, row: 'rule web', why: expect.stringMatching(why) });
  });
  it('refuses a number that occurs twice', () => {
    expect(validateRules([rule({}), rule({ name: 'b' })])).toMatchObject({ row: 'rule b' });
  });
});
