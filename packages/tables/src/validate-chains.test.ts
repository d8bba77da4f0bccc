// SPDX-License-Identifier: Apache-2.0
import { AffinityKind, ChainRow, OnFailure, SelectPolicy } from '@detour/contracts';
import { describe, expect, it } from 'vitest';
import { buildSelection } from './selection.js';
import { validateChainRow, validateChains, validateSelection } from './validate-chains.js';

const path = (number: number, weight = 10) => ({
  number,
  nodes: [number],
  weight,
  fallbackWeight: weight,
  drained: false,
});
const row = (extra: Parameters<typeof ChainRow.fromPartial>[0] = {}) =>
  ChainRow.fromPartial({
    number: 1,
    name: 'inspect',
    onFailure: OnFailure.DROP,
    affinity: AffinityKind.FIVE_TUPLE,
    select: SelectPolicy.WEIGHTED,
    paths: [path(1), path(2)],
    ...extra,
  });
const known = (number: number) => (number <= 2 ? [number] : undefined);

describe('validateChainRow', () => {
  it('takes a sound row', () => {
    expect(validateChainRow(row(), known)).toEqual({ ok: true });
  });

  it.each<[string, Parameters<typeof ChainRow.fromPartial>[0], RegExp]>([
    ['an unknown path', { paths: [path(1), path(3)] }, /path 3 is unknown/],
    ['a duplicate path', { paths: [path(1), path(1)] }, /path 1 occurs twice/],
    [
      'a path through other nodes',
      { paths: [{ ...path(1), nodes: [2] }] },
      /goes through nodes 2 instead of 1/,
    ],
    ['a total weight of 0', { paths: [path(1, 0), path(2, 0)] }, /total weight is 0/],
    ['no paths', { paths: [] }, /no paths/],
    ['a path without nodes', { paths: [{ ...path(1), nodes: [] }] }, /path 1 has 0 nodes/],
    ['a weight out of bounds', { paths: [path(1, 1001)] }, /weight 1001/],
    ['path 0', { paths: [path(0)] }, /path 0 is not/],
    ['a chain number out of bounds', { number: 64 }, /number 64/],
    ['no select policy', { select: SelectPolicy.UNSPECIFIED }, /select policy/],
    ['no affinity', { affinity: AffinityKind.UNSPECIFIED }, /affinity/],
    ['no onFailure', { onFailure: OnFailure.UNSPECIFIED }, /onFailure/],
  ])('refuses %s and names the row', (_, extra, why) => {
    const result = validateChainRow(row(extra), known);
    expect(result).toMatchObject({ ok: false, row: 'chain inspect', why: expect.stringMatching(why) });
  });

  it('takes a total weight of 0 when every path is drained', () => {
    const drained = [1, 2].map((number) => ({ ...path(number, 0), drained: true }));
    expect(validateChainRow(row({ paths: drained })).ok).toBe(true);
  });
});

describe('validateChains', () => {
  it('refuses two chains of one number, a path in two chains, an unknown backup', () => {
    expect(validateChains([row(), row()])).toMatchObject({ ok: false, why: 'chain number 1 occurs twice' });
    expect(validateChains([row(), row({ number: 2, name: 'other' })])).toMatchObject({ row: 'chain other' });
    expect(validateChains([row({ onFailure: OnFailure.BACKUP, backup: 9 })])).toMatchObject({
      why: 'backup chain 9 is unknown',
    });
  });
});

describe('validateSelection', () => {
  const members = [
    { path: 1, weight: 50 },
    { path: 2, weight: 30 },
    { path: 3, weight: 0 },
  ];
  const broken = (change: (slots: Uint16Array) => void) => {
    const slots = buildSelection(members, 1);
    change(slots);
    return validateSelection(slots, members);
  };
  it('takes what buildSelection makes', () => {
    expect(broken(() => undefined)).toEqual({ ok: true });
  });
  it('refuses a hole', () => {
    expect(broken((slots) => slots.fill(0, 5, 6))).toMatchObject({ why: 'slot 5 is a hole' });
  });
  it('refuses a path that is no member', () => {
    expect(broken((slots) => slots.fill(9, 5, 6))).toMatchObject({ why: expect.stringContaining('path 9') });
  });
  it('refuses an overlap: one path with slots of another', () => {
    expect(broken((slots) => slots.fill(2, 0, 400)).ok).toBe(false);
    expect(broken((slots) => slots.fill(3, 0, 1)).ok).toBe(false);
  });
  it('refuses another number of slots', () => {
    expect(validateSelection(new Uint16Array(10).fill(1), members)).toMatchObject({ ok: false });
    expect(validateSelection(new Uint16Array(0), members)).toMatchObject({ ok: false });
  });
});
