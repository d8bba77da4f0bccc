// SPDX-License-Identifier: Apache-2.0
// Layouts of real maps as the kernel has them, and what is carried from one to another.
import { Fault } from '@detour/core';
import { afterAll, describe, expect, it } from 'vitest';
import { type Layout, mapLayout } from './btf.js';
import { planConversion } from './convert.js';
import { openObject } from './object.js';
import { compileTestObjects } from './testdata.js';

const objects = compileTestObjects('layouts');
const object = openObject(objects.object('layouts'));
afterAll(() => {
  object.close();
  objects[Symbol.dispose]();
});

function layoutOf(name: string): { key: Layout; value: Layout } {
  return mapLayout(object.map(name)) ?? expect.fail(`${name} has no BTF`);
}

/** Bytes of a value of `older`. */
function older(fields: { count: number; port: number; ways?: readonly number[]; id?: bigint }): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, fields.id ?? 0x1122334455667788n, true);
  view.setUint32(8, fields.count, true);
  view.setUint16(12, fields.port, true);
  for (const [i, way] of (fields.ways ?? [7, 8]).entries()) view.setUint32(16 + 8 * i, way, true);
  return bytes;
}

describe('mapLayout', () => {
  it('is what the kernel says of keys and values: sizes, names, offsets, arrays and structs in them', () => {
    const { key, value } = layoutOf('older');
    expect(key).toEqual({ kind: 'scalar', size: 4 });
    expect(value).toMatchObject({ kind: 'struct', name: 'older_row', size: 32 });
    if (value.kind !== 'struct') return;
    expect(value.fields.map(({ name, at }) => [name, at])).toEqual([
      ...[
        ['id', 0],
        ['count', 8],
        ['port_be', 12],
        ['gone', 14],
        ['way', 16],
      ],
    ]);
    expect(value.fields[4]?.layout).toMatchObject({
      kind: 'array',
      count: 2,
      of: { kind: 'struct', size: 8 },
    });
  });
});

describe('planConversion', () => {
  const { value: from } = layoutOf('older');
  const { value: to } = layoutOf('newer');

  it('carries each field to where its name is by now, widens numbers, and leaves the rest zero', () => {
    const into = new Uint8Array(to.size).fill(0xff);
    expect(planConversion(from, to)(older({ count: 9, port: 0x5000 }), into)).toBe(true);
    const view = new DataView(into.buffer);
    const at = (name: string): number =>
      (to.kind === 'struct' ? to.fields.find((field) => field.name === name)?.at : undefined) ??
      expect.fail(name);
    expect(view.getBigUint64(at('count'), true)).toBe(9n);
    expect(view.getUint16(at('port_be'), true)).toBe(0x5000);
    expect(view.getBigUint64(at('id'), true)).toBe(0x1122334455667788n);
    expect(view.getUint32(at('fresh'), true)).toBe(0);
    expect([0, 1, 2].map((i) => view.getUint32(at('way') + 8 * i, true))).toEqual([7, 8, 0]);
  });

  it('back again only what fits: a number that is too large is said, and so is an element too many', () => {
    const forth = new Uint8Array(to.size);
    const back = new Uint8Array(from.size);
    const turn = planConversion(to, from);
    planConversion(from, to)(older({ count: 9, port: 1 }), forth);
    expect(turn(forth, back)).toBe(true);
    expect(back).toEqual(older({ count: 9, port: 1 }));
    if (to.kind !== 'struct') return;
    const place = (name: string) => to.fields.find((field) => field.name === name)?.at ?? 0;
    const large = forth.slice();
    new DataView(large.buffer).setBigUint64(place('count'), 2n ** 32n, true);
    expect(turn(large, back)).toBe(false);
    const third = forth.slice();
    third[place('way') + 16] = 1;
    expect(turn(third, back)).toBe(false);
  });

  it('refuses a field that is another kind of thing by now, by name', () => {
    const { value: other } = layoutOf('other');
    expect(() => planConversion(from, other)).toThrow(new Fault('invalid', 'way was array and is scalar'));
  });
});
