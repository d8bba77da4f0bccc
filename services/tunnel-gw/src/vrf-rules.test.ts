// SPDX-License-Identifier: Apache-2.0
// Rules for VRFs: what is planned, and what a kernel then has, in a namespace of the test's own.
import { execFileSync } from 'node:child_process';
import { createLab, type Lab } from '@detour/lab';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readLinks, removeDevices } from './devices.js';
import { enterNamespace } from './testdata.js';
import { ensureVrfRules, planRemoval, planRules, type RoutingRule, removeVrfRules } from './vrf-rules.js';

const local: RoutingRule = { priority: 0, src: 'all', table: '255' };
const main: RoutingRule = { priority: 32766, src: 'all', table: '254' };
const lookup = { priority: 0, src: 'all', iif: 'dtr100', table: '100' };
const end = { priority: 0, src: 'all', iif: 'dtr100', action: '7' };

describe('the plan', () => {
  it('is empty when everything is in place', () => {
    expect(planRules([lookup, end, local, main], [100])).toEqual([]);
    expect(planRules([local, main], [])).toEqual([]);
    expect(planRemoval([lookup, end, local, main], [100])).toEqual([]);
  });

  it('leaves a local table alone that the operator has moved behind', () => {
    expect(planRules([{ ...local, priority: 1000 }, main], [100])).toEqual([
      'rule add priority 0 iif dtr100 lookup 100',
      'rule add priority 0 iif dtr100 unreachable',
    ]);
  });

  it('takes a rule with selectors of its own for none of the local table', () => {
    const marked = { ...local, fwmark: '0x1' };
    expect(planRules([marked, lookup, end, main], [100])).toEqual([]);
  });
});

describe('the kernel', () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await createLab({ namespaces: { edge: {} }, links: [] }, { name: `vrfrules-${process.pid}` });
    enterNamespace(lab.netns('edge'));
  });
  afterEach(async () => {
    await removeVrfRules([]);
    await removeDevices(new Set());
    expect(rules('-4')).toEqual(FRESH);
  });
  afterAll(() => lab.close());

  const ip = (line: string) => execFileSync('ip', line.split(' ')).toString();
  const rules = (family: '-4' | '-6') =>
    ip(`-N ${family} rule show`)
      .trim()
      .split('\n')
      .map((line) => line.replace(/\s+/g, ' '))
      .filter((line) => !line.startsWith('3276'));
  const FRESH = ['0: from all lookup 255'];
  const of = (table: number) => [
    `0: from all iif dtr${table} lookup ${table}`,
    `0: from all iif dtr${table} 7`,
  ];
  const ensure = async (tables: number[]) => ensureVrfRules(tables, await readLinks());

  it('has them before the local table, in both families, for each table', async () => {
    const links = await ensure([100]);
    expect(links.get('dtr100')).toMatchObject({ ours: true });
    await ensure([100, 4_294_967_295]);
    for (const family of ['-4', '-6'] as const)
      expect(rules(family)).toEqual([...of(100), ...of(4_294_967_295), ...FRESH]);
    expect(ip('-o link show dtr100')).not.toMatch(/[<,]UP[,>]/); // nothing can enter by it
    expect(ip('netconf show dev dtr100')).toMatch(/forwarding on/);
  });

  it('gets what somebody took away, in the same order', async () => {
    await ensure([100, 200]);
    for (const line of [
      'rule del priority 0 iif dtr100 lookup 100',
      '-6 rule del priority 0 iif dtr200 unreachable',
      'link del dtr200',
    ])
      ip(line);
    await ensure([100, 200]);
    expect(rules('-4')).toEqual([...of(200), ...of(100), ...FRESH]);
    expect(rules('-6')).toEqual([...of(100), ...of(200), ...FRESH]);
    expect((await readLinks()).has('dtr200')).toBe(true);
  });

  it('loses those of other tables alone, and those whose device has gone', async () => {
    await ensure([100, 200, 300]);
    ip('link del dtr300');
    ip('rule add priority 77 iif lo lookup 77');
    await removeVrfRules([200]);
    expect(rules('-4')).toEqual([...of(200), ...FRESH, '77: from all iif lo lookup 77']);
    expect(rules('-6')).toEqual([...of(200), ...FRESH]);
    ip('rule del priority 77 iif lo lookup 77');
  });

  it.each([
    ['before the local table was put aside', ['rule add priority 1 lookup 255']],
    ['after that', ['rule add priority 1 lookup 255', 'rule del priority 0 lookup 255']],
    [
      'with one rule of a table',
      [
        'rule add priority 1 lookup 255',
        'rule del priority 0 lookup 255',
        'rule add priority 0 iif dtr100 lookup 100',
      ],
    ],
  ])('is put in order after a predecessor that ended in the middle, %s', async (_when, lines) => {
    for (const line of lines) ip(line);
    await ensure([100]);
    expect(rules('-4')).toEqual([...of(100), ...FRESH]);
    for (const line of lines.slice(0, 2)) ip(line);
    await removeVrfRules([]); // and when the next start needs no rules
    expect(rules('-4')).toEqual(FRESH);
  });

  it("refuses a device of that name that is not Detour's", async () => {
    ip('link add dtr100 type veth peer name other');
    await expect(ensure([100])).rejects.toMatchObject({ code: 'conflict' });
    ip('link del dtr100');
  });
});
