// SPDX-License-Identifier: Apache-2.0
// From which side a flow's forward packets come, in its record: by that a bump in the wire is entered by one member or the other.
import type { BpfObject } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FlowDecision, FlowQuestion } from './decision.js';
import type { FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import { flowQuestion, openFlowTable } from './testdata.js';

const INSIDE = 1;
const UPLINK = 2;

let object: BpfObject;
let table: FlowTable;
let sport = 1;

beforeAll(() => {
  ({ table, object } = openFlowTable({ isInside: (port) => port === INSIDE }));
});
afterAll(() => {
  table[Symbol.dispose]();
  object.close();
});

const decision = (question: FlowQuestion, reversed: boolean): FlowDecision => ({
  ...{ action: 'steer', rule: 1, chain: 1, path: 1, pinGen: 1, recorded: true, by: 'last-tables', why: '' },
  initiatorIsB: (question.norm === 1) !== reversed,
});

function isInside(question: FlowQuestion): boolean {
  const record = table.read(question.key);
  if (record === null) throw new Error('the flow has no record');
  return (unpackFlowWord(record.flow.word).flags & abi.FlowWordFlag.WORD_FLAG_INSIDE) !== 0;
}

describe('the side of a flow', () => {
  it.each([
    ['its first packet comes from the inside', INSIDE, false, true],
    ['its first packet comes from the uplink', UPLINK, false, false],
    ['a reply from the inside was met first', INSIDE, true, false],
    ['a reply from the uplink was met first', UPLINK, true, true],
  ])('%s', (_what, port, reversed, inside) => {
    const question = flowQuestion({ sport: sport++, port, syn: !reversed });
    expect(table.install(question, decision(question, reversed), 1)).toBe(true);
    expect(isInside(question)).toBe(inside);
    // Decided anew it stays, whichever end is taken for the initiator now: the packets are the same.
    expect(table.replace(question.key, decision(question, reversed))).toBe(true);
    expect(isInside(question)).toBe(inside);
    expect(table.replace(question.key, decision(question, !reversed))).toBe(true);
    expect(isInside(question)).toBe(!inside);
  });
});
