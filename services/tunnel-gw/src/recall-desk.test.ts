// SPDX-License-Identifier: Apache-2.0
import type { Answer, Pin, PinRequest } from '@detour/affinity';
import { type FlowRecord, flowRecordKey } from '@detour/contracts';
import { hashKeyFromHex } from '@detour/core';
import { ReferenceRules } from '@detour/tables';
import { describe, expect, it } from 'vitest';
import { ChainModels } from './chain-models.js';
import { decideLocally, type FlowQuestion } from './decision.js';
import { RecallDesk } from './recall-desk.js';
import { chainRow, flowQuestion, ruleRow } from './testdata.js';

/** One chain with paths 1 and 2; Redis answers as the test says. */
function recallDesk(
  redis: (offers: readonly PinRequest[]) => Answer<Pin>[],
  lookUp: (keys: readonly string[]) => Promise<Answer<FlowRecord | null>[]> = async (keys) =>
    keys.map(() => ({ ok: true, value: null })),
  down: readonly number[] = [],
) {
  const models = new ChainModels(new Map());
  models.commit(models.draft([chainRow()], (node) => (down.includes(node) ? 'down' : 'up')));
  const rules = new ReferenceRules([ruleRow({ number: 1 })]);
  const tables = { rules, chains: models.all(), hashKey: hashKeyFromHex('00'.repeat(16)) };
  const offered: (readonly PinRequest[])[] = [];
  const choices: boolean[] = [];
  const redisIs = { connected: true };
  const desk = new RecallDesk({
    connected: () => redisIs.connected,
    lookUp,
    lookOrCreate: async (offers) => {
      offered.push(offers);
      return redis(offers);
    },
    decideAlone: (question, { history }) => {
      choices.push(history);
      return decideLocally(tables, question);
    },
    chainOf: (number) => tables.chains.get(number),
  });
  return { desk, offered, redisIs, choices };
}

const midflow = (sport: number) => ({ ...flowQuestion({ sport }), syn: false });
const asOffered = (offers: readonly PinRequest[]): Answer<Pin>[] =>
  offers.map(({ record }) => ({ ok: true, value: { record, created: true } }));
/** What Redis holds of each instead. */
const held = (
  offers: readonly PinRequest[],
  change: (record: FlowRecord) => Partial<FlowRecord>,
): Answer<Pin>[] =>
  offers.map(({ record }) => ({
    ok: true,
    value: { record: { ...record, ...change(record) }, created: false },
  }));

describe('RecallDesk', () => {
  it('what Redis holds counts, not what the tables say now; flows that come together are asked about together', async () => {
    const { desk, offered } = recallDesk((offers) =>
      held(offers, ({ path }) => ({ gen: 4, path: path === 1 ? 2 : 1 })),
    );
    const questions = [1_001, 1_002, 1_003].map(midflow);
    const decisions = await Promise.all(questions.map((question) => desk.ask(question)));
    expect(offered.map((batch) => batch.map(({ key }) => key))).toEqual([
      questions.map(({ key }) => flowRecordKey(key)),
    ]);
    for (const [i, decision] of decisions.entries())
      expect(decision).toMatchObject({
        ...{ action: 'steer', by: 'redis', pinGen: 4, recorded: true },
        path: offered[0]?.[i]?.record.path === 1 ? 2 : 1,
      });
    expect(desk.counts).toEqual({ recalled: 3, created: 0, unanswered: 0 });
  });

  it('where it held nothing the choice is recorded', async () => {
    const { desk, offered } = recallDesk(asOffered);
    const decision = await desk.ask(midflow(1_001));
    expect(decision).toMatchObject({
      by: 'redis',
      pinGen: 1,
      recorded: true,
      path: offered[0]?.[0]?.record.path,
    });
    expect(desk.counts).toMatchObject({ recalled: 0, created: 1 });
  });

  it('what a node has said of the flow elsewhere, and who began it, come with the pin', async () => {
    const { desk, offered } = recallDesk((offers) =>
      held(offers, ({ initiatorIsB }) => ({ initiatorIsB: !initiatorIsB, programmed: 'drop' })),
    );
    const decision = await desk.ask(midflow(1_001));
    const { initiatorIsB } = offered[0]?.[0]?.record ?? expect.fail();
    expect(decision).toMatchObject({ by: 'redis', programmed: 'drop', initiatorIsB: !initiatorIsB });
  });

  it('a pin of another chain, or of a path that is no more, is left to be settled afterwards', async () => {
    for (const change of [{ chain: 9 }, { path: 77 }]) {
      const { desk, offered } = recallDesk((offers) => held(offers, () => ({ ...change, gen: 3 })));
      const decision = await desk.ask(midflow(1_001));
      expect(decision).toMatchObject({ path: offered[0]?.[0]?.record.path, pinGen: 3, recorded: false });
    }
  });

  it('nobody is asked about what begins here, and a silent Redis is named', async () => {
    const { desk, offered } = recallDesk((offers) =>
      offers.map(() => ({ ok: false, why: 'no answer from Redis within 500 ms' })),
    );
    expect(desk.ask(flowQuestion())).toBeNull();
    expect(offered).toEqual([]);
    await expect(desk.ask(midflow(1_001))).rejects.toThrow('no answer from Redis within 500 ms');
    expect(desk.counts.unanswered).toBe(1);
  });

  it('a SYN that was not answered here is sought as one in its middle is, and takes no path that is down, nor what a node said of an earlier connection', async () => {
    const again = { ...flowQuestion({ sport: 1_001 }), again: true };
    const { desk, offered } = recallDesk(asOffered, async (keys) =>
      keys.map(() => ({ ok: true, value: { gen: 1, path: 2, chain: 1, initiatorIsB: false } })),
    );
    expect(await desk.known(again)).toMatchObject({ by: 'redis', path: 2, recorded: true });
    expect(offered).toEqual([]);
    expect(await desk.ask(again)).toMatchObject({ by: 'redis', recorded: true }); // no controller answers: its own choice, for others to find
    expect(offered).toHaveLength(1);

    for (const [down, said] of [
      [[2], {}],
      [[], { programmed: 'allow' }],
    ] as const) {
      const { desk: another } = recallDesk(
        asOffered,
        async (keys) =>
          keys.map(() => ({
            ok: true,
            value: { gen: 1, path: 2, chain: 1, initiatorIsB: false, ...said },
          })),
        down,
      );
      expect(await another.known(again)).toBeNull();
      if (down.length > 0) expect(await another.known(midflow(1_001))).toMatchObject({ path: 2 });
    }
  });

  it('a choice that later ones go by is made only of flows that Redis does not know', async () => {
    const pin: FlowRecord = { gen: 4, path: 2, chain: 1, initiatorIsB: true };
    const { desk, choices } = recallDesk(asOffered, async (keys) =>
      keys.map((_, i) => ({ ok: true, value: i === 0 ? pin : null })),
    );
    const [known, unknown] = [1_001, 1_002].map(midflow) as [FlowQuestion, FlowQuestion];
    const found = await Promise.all([known, unknown].map((question) => desk.known(question)));
    expect(found).toMatchObject([{ path: 2 }, null]);
    expect(choices).toEqual([false, false]);
    await desk.ask(unknown);
    expect(choices).toEqual([false, false, true]);
  });

  describe('known', () => {
    const pin: FlowRecord = { gen: 4, path: 2, chain: 1, initiatorIsB: true };

    it('answers with what Redis holds, without offering anything; flows that come together are asked about together', async () => {
      const asked: (readonly string[])[] = [];
      const { desk, offered } = recallDesk(asOffered, async (keys) => {
        asked.push(keys);
        return keys.map(() => ({ ok: true, value: pin }));
      });
      const questions = [1_001, 1_002].map(midflow);
      const decisions = await Promise.all(questions.map((question) => desk.known(question)));
      expect(asked).toEqual([questions.map(({ key }) => flowRecordKey(key))]);
      for (const decision of decisions)
        expect(decision).toMatchObject({
          ...{ action: 'steer', by: 'redis', path: 2, pinGen: 4, initiatorIsB: true, recorded: true },
        });
      expect(offered).toEqual([]);
      expect(desk.counts).toMatchObject({ recalled: 2, created: 0 });
    });

    it('has nothing to say of a flow that Redis does not know, of a pin that cannot be used here, or when Redis is silent', async () => {
      const answers: Answer<FlowRecord | null>[] = [
        { ok: true, value: null },
        { ok: true, value: { ...pin, chain: 9 } },
        { ok: true, value: { ...pin, path: 77 } },
        { ok: false, why: 'no answer within 10 ms' },
      ];
      for (const answer of answers) {
        const { desk, offered } = recallDesk(asOffered, async () => [answer]);
        expect(await desk.known(midflow(1_001))).toBeNull();
        expect(offered).toEqual([]);
        expect(desk.counts.recalled).toBe(0);
      }
    });

    it('asks nobody about a flow that begins here, about one that is traced, or while Redis is away', () => {
      const { desk, redisIs } = recallDesk(asOffered, () => expect.fail('Redis was asked'));
      expect(desk.known(flowQuestion())).toBeNull();
      expect(desk.known({ ...midflow(1_001), sampled: true })).toBeNull();
      redisIs.connected = false;
      expect(desk.known(midflow(1_001))).toBeNull();
    });

    it('offers nothing while the look-up is under way', async () => {
      for (const value of [pin, null]) {
        let answer: (answers: Answer<FlowRecord | null>[]) => void = () => {};
        const { desk, offered } = recallDesk(asOffered, () => new Promise((resolve) => (answer = resolve)));
        const question = midflow(1_001);
        const found = desk.known(question);
        const asked = desk.ask(question);
        await new Promise((resolve) => setImmediate(resolve));
        expect(offered).toEqual([]);
        answer([{ ok: true, value }]);
        expect(await asked).toMatchObject({ by: 'redis', pinGen: value?.gen ?? 1 });
        expect(offered.length).toBe(value === null ? 1 : 0);
        expect((await found) === null).toBe(value === null);
      }
    });
  });
});
