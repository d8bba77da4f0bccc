// SPDX-License-Identifier: Apache-2.0
import {
  ClassifyAnswer,
  type ClassifyQuestion,
  FlowInstruction,
  PathSource,
  RuleAction,
  SelectAnswer,
  type SelectQuestion,
} from '@detour/contracts';
import { reverseTuple } from '@detour/core';
import { trace } from '@opentelemetry/api';
import { describe, expect, it } from 'vitest';
import { askControllers, type ControllerOptions } from './controllers.js';
import { flowQuestion } from './testdata.js';

interface Answers {
  readonly classify?: Partial<ClassifyAnswer> | Error;
  readonly select?: Partial<SelectAnswer> | Error;
  readonly usable?: readonly number[];
  readonly dropsUnresolved?: boolean;
}

/** Two controllers that answer as told, and what they were asked. */
function controllers({ classify = {}, select = {}, usable = [1, 2, 3], dropsUnresolved = true }: Answers) {
  const asked: { classify: Omit<ClassifyQuestion, 'id'>[]; select: Omit<SelectQuestion, 'id'>[] } = {
    classify: [],
    select: [],
  };
  const options: ControllerOptions = {
    gateway: 'edge1',
    tracer: trace.getTracer('none'), // of no SDK: it records nothing
    classify: {
      ask: async (question) => {
        asked.classify.push(question);
        if (classify instanceof Error) throw classify;
        return ClassifyAnswer.fromPartial({
          action: RuleAction.CHAIN,
          rule: 4,
          chain: 1,
          why: 'rule web',
          ...classify,
        });
      },
    },
    select: {
      ask: async (question) => {
        asked.select.push(question);
        if (select instanceof Error) throw select;
        return SelectAnswer.fromPartial({
          path: 2,
          pinGen: 1,
          source: PathSource.SELECTED,
          why: 'by weight',
          ...select,
        });
      },
    },
    own: {
      isUsable: (_chain, path) => usable.includes(path),
      dropsUnresolved: () => dropsUnresolved,
      prefer: (chain) => 10 * chain,
      choose: () => 3,
    },
  };
  return { asked, ask: (question = flowQuestion()) => askControllers(options, question) };
}

describe('askControllers', () => {
  it('asks the classifier, then the path-selector, and says why', async () => {
    const { asked, ask } = controllers({});
    expect(await ask(flowQuestion({ port: 7 }))).toMatchObject({
      action: 'steer',
      rule: 4,
      chain: 1,
      path: 2,
      pinGen: 1,
      recorded: true,
      by: 'controller',
      why: 'rule web; by weight',
    });
    expect(asked.classify[0]).toMatchObject({ gateway: 'edge1', port: 7, syn: true, traceparent: '' });
    expect(asked.select[0]).toMatchObject({ chain: 1, rule: 4, midflow: false, preferred: 10 });
  });

  it("a reply asks about its flow's forward side", async () => {
    const { asked, ask } = controllers({ classify: { reversed: true } });
    const question = flowQuestion({ syn: false });
    const decision = await ask(question);
    expect(asked.select[0]?.tuple).toEqual(reverseTuple(question.tuple));
    expect(asked.select[0]?.midflow).toBe(true);
    expect(decision.initiatorIsB).toBe(question.norm === 0);
  });

  it('asks nobody about a path where the rule needs none', async () => {
    for (const [action, want] of [
      [RuleAction.ALLOW, 'allow'],
      [RuleAction.DROP, 'drop'],
      [RuleAction.UNRESOLVED, 'unresolved-drop'],
    ] as const) {
      const { asked, ask } = controllers({ classify: { action, chain: 0 } });
      expect(await ask()).toMatchObject({ action: want, path: 0, recorded: true });
      expect(asked.select).toEqual([]);
    }
  });

  it('unresolvedPolicy: allow lets pass what has no chain', async () => {
    const { ask } = controllers({
      classify: { action: RuleAction.UNRESOLVED, chain: 0 },
      dropsUnresolved: false,
    });
    expect(await ask()).toMatchObject({ action: 'allow' });
  });

  it("a path that is not usable here is replaced by this gateway's own choice, and recorded later", async () => {
    const { ask } = controllers({ usable: [3] });
    expect(await ask()).toMatchObject({ path: 3, recorded: false });
  });

  it("health is this gateway's own word: also where the path-selector knows of no path", async () => {
    const { ask } = controllers({ select: { path: 0, pinGen: 0, source: PathSource.UNRECORDED } });
    expect(await ask()).toMatchObject({ path: 3, recorded: false, pinGen: 0 });
  });

  it("a pin is kept although its path is down: the chain's onNodeDown decides", async () => {
    const { ask } = controllers({ select: { path: 9, pinGen: 4, source: PathSource.PINNED } });
    expect(await ask()).toMatchObject({ path: 9, pinGen: 4, recorded: true });
  });

  it('what a node has said of the flow at another gateway holds here', async () => {
    const select = { path: 2, pinGen: 4, source: PathSource.PINNED };
    const said = async (said: FlowInstruction) => {
      const { ask } = controllers({ select: { ...select, said } });
      return (await ask()).programmed;
    };
    expect(await said(FlowInstruction.SKIP_ALL)).toBe('allow');
    expect(await said(FlowInstruction.DROP)).toBe('drop');
    expect(await said(FlowInstruction.UNSPECIFIED)).toBeUndefined();
  });

  it('without Redis the choice counts, and is recorded later', async () => {
    const { ask } = controllers({ select: { source: PathSource.UNRECORDED, pinGen: 0 } });
    expect(await ask()).toMatchObject({ path: 2, recorded: false });
  });

  it.each([
    ['the classifier is gone', { classify: new Error('gone') }, /gone/],
    ['the classifier cannot say', { classify: { error: 'no revision yet' } }, /classifier: no revision yet/],
    ['the path-selector is gone', { select: new Error('gone') }, /gone/],
    [
      'the path-selector cannot say',
      { select: { error: 'chain 1 is unknown' } },
      /path-selector: chain 1 is unknown/,
    ],
  ])('rejects, so that the last tables decide: %s', async (_what, answers, want) => {
    await expect(controllers(answers).ask()).rejects.toThrow(want);
  });
});
