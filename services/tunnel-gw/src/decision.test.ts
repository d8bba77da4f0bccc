// SPDX-License-Identifier: Apache-2.0
import { RuleAction } from '@detour/contracts';
import { type HashKey, hashKeyFromHex, normaliseTuple, reverseTuple } from '@detour/core';
import { choosePath, expandChain, ReferenceRules } from '@detour/tables';
import { describe, expect, it } from 'vitest';
import { ChainModels } from './chain-models.js';
import { choosePathLocally, decideLocally, type FlowQuestion, type LiveTables } from './decision.js';
import { chainRow, flowQuestion, pathRow, prefixRow, ruleRow } from './testdata.js';

const secret: HashKey = hashKeyFromHex('000102030405060708090a0b0c0d0e0f');
const PATHS = [pathRow(1, [1]), pathRow(2, [2], 300), pathRow(3, [3], 50)];

function tables(rules = [ruleRow()], row = chainRow({ paths: PATHS })): LiveTables {
  const models = new ChainModels(new Map());
  models.commit(models.draft([row], () => 'up'));
  return { rules: new ReferenceRules(rules), chains: models.all(), hashKey: secret };
}

/** The question that the reply of a flow raises. */
function replyOf(question: FlowQuestion): FlowQuestion {
  const tuple = reverseTuple(question.tuple);
  return { ...question, tuple, ...normaliseTuple(tuple), syn: false };
}

describe('decideLocally', () => {
  it('chooses as packages/tables and the datapath do, for every affinity', () => {
    for (const affinity of [1, 2, 3, 4] as const) {
      const row = chainRow({ paths: PATHS, affinity });
      const live = tables([ruleRow()], row);
      const expanded = expandChain(row, () => 'up');
      for (let sport = 1; sport < 400; sport++) {
        const question = flowQuestion({ sport, src: `10.1.${sport & 7}.${sport & 255}` });
        const { key, norm } = normaliseTuple(question.tuple);
        const want = choosePath(expanded, key, { initiatorIsB: norm === 1, secret });
        expect(decideLocally(live, question).path).toBe(want);
      }
    }
  });

  it('a reply that is seen first gets the path, the rule and the initiator of its flow', () => {
    const live = tables([ruleRow({ sources: [prefixRow('10.1.0.0/16')] })]);
    const paths = new Set<number>();
    for (let sport = 1; sport < 200; sport++) {
      const forward = decideLocally(live, flowQuestion({ sport }));
      const reply = decideLocally(live, replyOf(flowQuestion({ sport })));
      expect(reply).toEqual({ ...forward, pinGen: 0 }); // who sees the reply first does not know that the flow began here
      paths.add(forward.path);
    }
    expect(paths.size).toBe(3);
    const other = flowQuestion({ src: '203.0.113.200', dst: '10.1.0.10' });
    expect(decideLocally(live, { ...replyOf(other), syn: true }).action).toBe('allow'); // a SYN begins a flow of its own
  });

  it('says allow where no rule matches, and what the rule says where one does', () => {
    const decide = (action: RuleAction, dropUnresolved = true) =>
      decideLocally(tables([ruleRow({ action, dropUnresolved })]), flowQuestion()).action;
    expect(decideLocally(tables([]), flowQuestion())).toMatchObject({
      action: 'allow',
      rule: 0,
      chain: 0,
      path: 0,
    });
    expect(decide(RuleAction.ALLOW)).toBe('allow');
    expect(decide(RuleAction.DROP)).toBe('drop');
    expect(decide(RuleAction.UNRESOLVED, true)).toBe('unresolved-drop');
    expect(decide(RuleAction.UNRESOLVED, false)).toBe('allow');
    expect(decide(RuleAction.CHAIN)).toBe('steer');
  });

  it('steers to path 0 where none can be chosen: the datapath applies onFailure, and nothing passes by mistake', () => {
    const gone = { ...tables(), chains: new Map() };
    expect(decideLocally(gone, flowQuestion())).toMatchObject({
      action: 'steer',
      chain: 1,
      path: 0,
      recorded: false,
    });
    const models = new ChainModels(new Map());
    models.commit(models.draft([chainRow()], () => 'down'));
    expect(decideLocally({ ...tables(), chains: models.all() }, flowQuestion())).toMatchObject({
      action: 'steer',
      path: 0,
    });
    expect(choosePathLocally(models.get(1) ?? expect.fail(), flowQuestion().tuple, secret)).toBe(0);
  });
});
