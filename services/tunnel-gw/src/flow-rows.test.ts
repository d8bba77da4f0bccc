// SPDX-License-Identifier: Apache-2.0
// `detour get flows` at the gateway, on real maps of the kernel: what the request asks for, and no more than that leaves it.
import type { BpfObject } from '@detour/bpf';
import { GetFlowsRequest } from '@detour/contracts';
import { Fault } from '@detour/core';
import { revisionOf } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gatewayModel } from './desired.js';
import { flowRows } from './flow-rows.js';
import { FlowSlots } from './flow-slots.js';
import type { FlowTable } from './flow-table.js';
import { addressBytes } from './row-bytes.js';
import { SnatTable } from './snat-table.js';
import { exampleText, flowQuestion, openFlowTable } from './testdata.js';

const revision = revisionOf(exampleText());
const model = gatewayModel(revision, 'edge1');
const pathOf = (node: string) => revision.numbers.paths[`inspect@red:${node}`] ?? expect.fail(node);
const chain = revision.numbers.chains['inspect@red'] ?? expect.fail('no chain');
const red = revision.numbers.vrfs.red ?? expect.fail('no VRF');
const slots = new FlowSlots(129);

let object: BpfObject;
let table: FlowTable;

interface Made {
  readonly node?: 'fw1' | 'fw2';
  readonly src?: string;
  readonly vrf?: number;
}

let sport = 1;
function make({ node, src = '10.1.0.10', vrf = red }: Made): number {
  const question = flowQuestion({ src, vrf, sport: ++sport, syn: false });
  const steered = { action: 'steer', chain, path: node === undefined ? 0 : pathOf(node) } as const;
  const decision = {
    ...(node === undefined ? ({ action: 'allow', chain: 0, path: 0 } as const) : steered),
    ...{ rule: 1, pinGen: 1, initiatorIsB: question.norm === 1 },
    ...{ recorded: true, by: 'controller' as const, why: '' },
  };
  expect(table.install(question, decision, 1)).toBe(true);
  return sport;
}

const made = { fw1: [0], fw2: [0], allowed: 0, elsewhere: 0 };
beforeAll(() => {
  ({ table, object } = openFlowTable({ slots }));
  made.fw1 = [make({ node: 'fw1' }), make({ node: 'fw1' }), make({ node: 'fw1' })];
  made.fw2 = [make({ node: 'fw2', src: '10.1.0.99' })];
  made.allowed = make({});
  made.elsewhere = make({ vrf: red + 1 });
});
afterAll(() => object.close());

/** Source ports of the rows, and what the last row says of others. */
async function ask(request: Partial<GetFlowsRequest>): Promise<{ ports: number[]; leftOut: number }> {
  const map = (name: string) => object.map(name);
  const maps = { flows: map('flows'), embryos: map('embryos'), counters: map('flow_counters') };
  const snat = new SnatTable({ bindings: map('snat_bindings'), inners: map('snat_inners') });
  const ports: number[] = [];
  let leftOut = 0;
  const sources = { maps, table, slots, model, snat };
  for await (const row of flowRows(
    sources,
    GetFlowsRequest.fromPartial(request),
    new AbortController().signal,
  )) {
    expect(leftOut).toBe(0); // what was left out is said last
    if (row.leftOut > 0n) leftOut = Number(row.leftOut);
    else ports.push(row.tuple?.sport ?? 0);
  }
  return { ports: ports.sort((a, b) => a - b), leftOut };
}

describe('flowRows', () => {
  it('gives all flows where nothing is asked for, and says nothing of others', async () => {
    const all = [...made.fw1, ...made.fw2, made.allowed, made.elsewhere];
    expect(await ask({})).toEqual({ ports: all, leftOut: 0 });
  });

  it.each([
    ['by node', () => ({ node: 'fw1' }), () => made.fw1],
    ['by path', () => ({ path: `${pathOf('fw2')}` }), () => made.fw2],
    ['by chain', () => ({ chain: 'inspect' }), () => [...made.fw1, ...made.fw2]],
    ['by VRF', () => ({ vrf: 'red' }), () => [...made.fw1, ...made.fw2, made.allowed]],
    ['by address', () => ({ address: addressBytes('10.1.0.99') }), () => made.fw2],
    ['by the other address', () => ({ address: addressBytes('203.0.113.9'), node: 'fw2' }), () => made.fw2],
    ['by two of them at once', () => ({ node: 'fw1', path: `${pathOf('fw2')}` }), () => []],
    ['by a node that is not there', () => ({ node: 'fw9' }), () => []],
    ['by a chain that is not there', () => ({ chain: 'nothing' }), () => []],
    ['by a VRF that is not there', () => ({ vrf: 'blue' }), () => []],
  ])('%s', async (_what, request, ports) => {
    expect(await ask(request())).toEqual({ ports: ports(), leftOut: 0 });
  });

  it('gives no more than is wanted, and says how many more match: not how many there are', async () => {
    const { ports, leftOut } = await ask({ node: 'fw1', limit: 2 });
    expect([ports.length, leftOut]).toEqual([2, 1]);
    expect(await ask({ node: 'fw1', limit: 3 })).toEqual({ ports: made.fw1, leftOut: 0 });
  });

  it('refuses a path that is no number, instead of giving all flows', async () => {
    const refused = await ask({ path: 'fw1' }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(Fault);
    expect((refused as Fault).detail).toBe('path "fw1" is no number: see detour get paths');
  });
});
