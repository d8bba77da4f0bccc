// SPDX-License-Identifier: Apache-2.0
// On real maps of the kernel; what the datapath makes of the words is tested in tests/datapath.
import type { BpfObject } from '@detour/bpf';
import { abi, FlowInstruction, type ProgramFlowRequest } from '@detour/contracts';
import { Fault, type FlowKey, flowKeyText, normaliseTuple, type Tuple } from '@detour/core';
import { revisionOf } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gatewayModel } from './desired.js';
import type { FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import { programFlow } from './program-flow.js';
import { exampleText, flowQuestion, openFlowTable } from './testdata.js';

const revision = revisionOf(exampleText());
const model = gatewayModel(revision, 'edge1');
const pathOf = (node: string) => revision.numbers.paths[`inspect@red:${node}`] ?? 0;
const { SKIP_ME, SKIP_ALL, DROP, NONE } = FlowInstruction;

let object: BpfObject;
let flows: FlowTable;
let replaced = 0;
beforeAll(() => {
  ({ table: flows, object } = openFlowTable({
    chainGen: () => 7,
    onReplaced: () => {
      replaced++;
    },
  }));
});
afterAll(() => object.close());

const programmed: FlowKey[] = [];
let sport = 1;
function flow(node = 'fw1', change: { syn?: boolean; action?: 'steer' | 'allow' } = {}) {
  const question = flowQuestion({ sport: sport++, syn: change.syn ?? false });
  const action = change.action ?? 'steer';
  const decision = {
    ...{ action, rule: 3, chain: 1, path: action === 'steer' ? pathOf(node) : 0, pinGen: 4 },
    ...{ initiatorIsB: question.norm === 1, recorded: true, by: 'controller' as const, why: '' },
  };
  expect(flows.install(question, decision, 1)).toBe(true);
  const read = () => {
    const { flow: held, established } = flows.read(question.key) ?? expect.fail('no record');
    return { ...held, ...unpackFlowWord(held.word), established };
  };
  return { tuple: question.tuple, read };
}

const say = (tuple: Tuple | undefined, instruction: FlowInstruction, node = 'fw1') =>
  programFlow({ model, flows, onProgrammed: (key) => programmed.push(key) }, {
    node,
    tuple,
    instruction,
  } satisfies ProgramFlowRequest).generation;

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof Fault) return `${error.code}: ${error.detail}`;
    throw error;
  }
  throw new Error('it was taken');
}

describe('programFlow', () => {
  it('changes what becomes of one flow, keeps all else of its record, and counts on', () => {
    for (const syn of [true, false]) {
      const [one, other] = [flow('fw1', { syn }), flow('fw1', { syn })];
      const before = one.read();
      const untouched = other.read();
      const count = replaced;
      programmed.length = 0;
      expect(say(one.tuple, SKIP_ALL)).toBe(1);
      expect(programmed.map(flowKeyText)).toEqual([flowKeyText(normaliseTuple(one.tuple).key)]);
      expect(replaced - count).toBe(syn ? 0 : 1); // an embryo has no row in front of the table
      expect(one.read()).toEqual({
        ...before,
        word: one.read().word,
        action: abi.FlowAction.FLOW_ALLOW,
        flags: abi.FlowWordFlag.WORD_FLAG_PROGRAMMED,
        fpGen: 1,
      });
      expect(say({ ...one.tuple, vrf: 0 }, DROP)).toBe(2); // the node's own VRF
      expect(one.read()).toMatchObject({ action: abi.FlowAction.FLOW_DROP, fpGen: 2, path: pathOf('fw1') });
      expect(say(one.tuple, NONE)).toBe(3);
      expect(one.read()).toMatchObject({ action: before.action, flags: 0, fpGen: 3, chainGen: 7 });
      expect(say(one.tuple, SKIP_ME)).toBe(4); // the only node of the path
      expect(one.read()).toMatchObject({ action: abi.FlowAction.FLOW_ALLOW, slot: before.slot });
      expect(other.read()).toEqual(untouched);
    }
  });

  it('takes the reply’s tuple for the same flow', () => {
    const one = flow();
    const { src, dst, sport: from, dport } = one.tuple;
    expect(say({ ...one.tuple, src: dst, dst: src, sport: dport, dport: from }, DROP)).toBe(1);
    expect(one.read().action).toBe(abi.FlowAction.FLOW_DROP);
  });

  it('believes only a node of the flow’s path, and only of a flow that is steered here', () => {
    const one = flow('fw2');
    const before = one.read();
    expect(refusal(() => say(one.tuple, SKIP_ALL, 'fw1'))).toMatch(
      /^refused: flow .* does not pass fw1: its path is \d+$/,
    );
    expect(refusal(() => say(one.tuple, SKIP_ALL, 'fw9'))).toBe('not_found: gateway edge1 has no node "fw9"');
    expect(refusal(() => say({ ...one.tuple, dport: 9 }, SKIP_ALL, 'fw2'))).toMatch(
      /^not_found: no flow .* is steered here$/,
    );
    expect(refusal(() => say(flow('fw1', { action: 'allow' }).tuple, DROP))).toMatch(/^not_found/);
    expect(refusal(() => say(one.tuple, 9 as FlowInstruction, 'fw2'))).toBe(
      'invalid: instruction 9 is unknown: SKIP_ME, SKIP_ALL, DROP or NONE',
    );
    expect(refusal(() => say(undefined, DROP, 'fw2'))).toMatch(/^invalid/);
    expect(refusal(() => say({ ...one.tuple, src: new Uint8Array(4) }, DROP, 'fw2'))).toMatch(/^invalid/);
    expect(one.read()).toEqual(before);
  });
});
