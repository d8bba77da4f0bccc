// SPDX-License-Identifier: Apache-2.0
import { abi, RuleAction } from '@detour/contracts';
import { hashKeyFromHex, normaliseTuple, reverseTuple } from '@detour/core';
import { ReferenceRules } from '@detour/tables';
import { describe, expect, it } from 'vitest';
import { ChainModels } from './chain-models.js';
import type { FlowQuestion, LiveTables } from './decision.js';
import { packFlowWord } from './flow-word.js';
import { redecide } from './redecide.js';
import { chainRow, flowQuestion, pathRow, prefixRow, ruleRow } from './testdata.js';

function tables(...rules: ReturnType<typeof ruleRow>[]): LiveTables {
  const models = new ChainModels(new Map());
  const rows = [chainRow(), chainRow({ number: 2, name: 'other', paths: [pathRow(7, [3])] })];
  models.commit(models.draft(rows, () => 'up'));
  return { rules: new ReferenceRules(rules), chains: models.all(), hashKey: hashKeyFromHex('00'.repeat(16)) };
}

interface Recorded {
  readonly action?: number;
  readonly flags?: number;
  readonly chain?: number;
  readonly path?: number;
  readonly rule?: number;
  readonly fwdPort?: number;
  readonly initiatorIsB?: boolean;
}

function recorded(question: FlowQuestion, r: Recorded = {}): abi.Flow {
  const way = { gen: 0, ifindex: 0, dmac: new Uint8Array(6), smac: new Uint8Array(6), mtu: 0, hop: 0 };
  return abi.flow.decode(
    abi.flow.encode({
      word: packFlowWord({
        path: r.path ?? 2,
        initiatorIsB: r.initiatorIsB ?? question.norm === 1,
        action: r.action ?? abi.FlowAction.FLOW_STEER,
        flags: r.flags ?? 0,
        chainGen: 1,
        fpGen: 0,
      }),
      createdNs: 1n,
      rule: r.rule ?? 1,
      slot: 5,
      rulesGen: 1,
      chain: r.chain ?? 1,
      fwdPort: r.fwdPort ?? question.port,
      entropy: 50_000,
      pinGen: 1,
      altScope: 0,
      out: [way, way],
    }),
  );
}

/** The packet of the other direction, as it enters by its own port. */
function reply(question: FlowQuestion, port: number): FlowQuestion {
  const tuple = reverseTuple(question.tuple);
  return { ...question, tuple, norm: normaliseTuple(tuple).norm, port, syn: false };
}

const about = (flow: abi.Flow) => ({ flow, opened: true, pinGen: 3 });

describe('redecide', () => {
  it('of a flow whose replies alone pass here, a SYN-ACK first, the rule of its other side counts', () => {
    const question = flowQuestion();
    const seen = reply(question, 2);
    const held = recorded(question, { fwdPort: 0 });
    expect(redecide(tables(ruleRow({ number: 1 })), seen, about(held))).toBeNull();
    const other = redecide(tables(ruleRow({ number: 3, chain: 2 })), seen, about(held));
    expect(other).toMatchObject({ moved: true, decision: { action: 'steer', chain: 2, path: 7 } });
    expect(other?.decision.initiatorIsB).toBe(question.norm === 1);
  });

  it('what a node said of a flow stays while the rules give it the same chain, and ends when they do not', () => {
    const question = flowQuestion();
    const flags = abi.FlowWordFlag.WORD_FLAG_PROGRAMMED;
    for (const action of [abi.FlowAction.FLOW_ALLOW, abi.FlowAction.FLOW_DROP]) {
      const held = { flow: recorded(question, { action, flags, rule: 1 }), opened: true, pinGen: 1 };
      expect(redecide(tables(ruleRow({ number: 1 })), question, held)).toBeNull();
      expect(redecide(tables(ruleRow({ number: 2 })), question, held)).toBeNull();
      expect(redecide(tables(ruleRow({ chain: 2 })), question, held)).toMatchObject({
        moved: true,
        decision: { action: 'steer', chain: 2 },
      });
      expect(redecide(tables(), question, held)).toMatchObject({
        moved: true,
        decision: { action: 'allow' },
      });
    }
  });

  it('says nothing where the rules say what the record says', () => {
    const question = flowQuestion();
    expect(redecide(tables(ruleRow()), question, about(recorded(question)))).toBeNull();
    expect(redecide(tables(ruleRow()), reply(question, 2), about(recorded(question)))).toBeNull();
  });

  it('another rule for the same chain: the flow keeps its path and its pin', () => {
    const question = flowQuestion();
    expect(redecide(tables(ruleRow({ number: 9 })), question, about(recorded(question)))).toMatchObject({
      moved: false,
      decision: { action: 'steer', rule: 9, chain: 1, path: 2, pinGen: 3 },
    });
  });

  it('another chain: another path, and a pin that wins over the old one', () => {
    const question = flowQuestion();
    expect(redecide(tables(ruleRow({ chain: 2 })), question, about(recorded(question)))).toMatchObject({
      moved: true,
      decision: { action: 'steer', chain: 2, path: 7, pinGen: 4 },
    });
  });

  it.each([
    ['the rule is gone', [], 'allow'],
    ['it says drop now', [ruleRow({ action: RuleAction.DROP })], 'drop'],
    ['its chain is gone', [ruleRow({ action: RuleAction.UNRESOLVED })], 'unresolved-drop'],
  ] as const)('%s', (_what, rules, action) => {
    const question = flowQuestion();
    const next = redecide(tables(...rules), question, about(recorded(question)));
    expect(next).toMatchObject({ moved: true, decision: { action } });
  });

  it('tells a drop by rule from an unresolved one', () => {
    const question = flowQuestion();
    const dropped = {
      action: abi.FlowAction.FLOW_DROP,
      chain: 0,
      path: 0,
      flags: abi.FlowWordFlag.WORD_FLAG_UNRESOLVED,
    };
    const rules = tables(ruleRow({ action: RuleAction.DROP }));
    expect(redecide(rules, question, about(recorded(question, dropped)))?.decision.action).toBe('drop');
    expect(redecide(rules, question, about(recorded(question, { ...dropped, flags: 0 })))).toBeNull();
  });

  it('a reply asks for the forward side, by the port that the forward side enters by', () => {
    const question = flowQuestion();
    const rules = tables(ruleRow({ appliedTo: [1] }));
    expect(redecide(rules, reply(question, 2), about(recorded(question)))).toBeNull();
    const elsewhere = tables(ruleRow({ appliedTo: [2] }));
    expect(redecide(elsewhere, reply(question, 2), about(recorded(question)))?.decision.action).toBe('allow');
  });

  it('a reply whose forward port is not known yet is looked up as it was at first', () => {
    const question = flowQuestion();
    const flow = recorded(question, { fwdPort: 0 });
    const rules = tables(ruleRow({ appliedTo: [1] }));
    expect(redecide(rules, reply(question, 2), { flow, opened: false, pinGen: 1 })).toBeNull();
  });

  it('a flow that nobody saw begin may turn out to be the reply of what a new rule names', () => {
    const rules = tables(ruleRow({ sources: [prefixRow('10.1.0.0/16')] }));
    const seen = reply(flowQuestion(), 2); // allowed when no rule was there, its first packet being the server's
    const flow = recorded(seen, { action: abi.FlowAction.FLOW_ALLOW, chain: 0, path: 0, rule: 0 });
    const next = redecide(rules, seen, { flow, opened: false, pinGen: 0 });
    expect(next).toMatchObject({ moved: true, decision: { action: 'steer', initiatorIsB: seen.norm === 0 } });
    expect(redecide(rules, seen, { flow, opened: true, pinGen: 0 })).toBeNull(); // its SYN came from the server: no
  });
});
