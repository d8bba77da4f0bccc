// SPDX-License-Identifier: Apache-2.0
import { manualClock, normaliseTuple, parseAddress } from '@detour/core';
import { describe, expect, it } from 'vitest';
import type { FlowDecision, FlowQuestion } from './decision.js';
import { type HeldPacket, PuntDesk, type PuntDeskOptions } from './punt-desk.js';

const address = (text: string) => parseAddress(text) ?? new Uint8Array(16);

function question(sport: number): FlowQuestion {
  const tuple = { vrf: 1, proto: 6, src: address('10.1.0.1'), dst: address('10.2.0.1'), sport, dport: 80 };
  return { tuple, ...normaliseTuple(tuple), port: 1, syn: true };
}

const packet = (mark: number): HeldPacket => ({ frame: Uint8Array.of(mark), op: 1, port: 1, node: 0 });

const decision = (by: FlowDecision['by']): FlowDecision => ({
  action: 'steer',
  rule: 1,
  chain: 1,
  path: 1,
  initiatorIsB: false,
  pinGen: 1,
  recorded: true,
  by,
  why: '',
});

/** A desk whose controllers answer when the test says so. */
function desk(change: Partial<PuntDeskOptions> = {}) {
  const clock = manualClock();
  const asked: { question: FlowQuestion; answer: (d: FlowDecision) => void; fail: () => void }[] = [];
  const ends: string[] = [];
  const installed: (FlowDecision & { rulesGen: number })[] = [];
  const rules = { gen: 1, decided: false };
  const marks = (packets: readonly HeldPacket[]) => packets.map((one) => one.frame[0]).join();
  const made = new PuntDesk({
    deadlineMs: 20,
    maxPacketsPerFlow: 4,
    maxFlows: 3,
    maxBytes: 1000,
    monoMs: () => clock.monoMs(),
    ask: (one) =>
      new Promise((resolve, reject) =>
        asked.push({ question: one, answer: resolve, fail: () => reject(new Error('gone')) }),
      ),
    recall: () => null,
    decideAlone: () => decision('last-tables'),
    rulesGen: () => rules.gen,
    isDecided: () => rules.decided,
    install: (_question, one, rulesGen) => {
      installed.push({ ...one, rulesGen });
      return true;
    },
    putBack: (packets) => ends.push(`back ${marks(packets)}`),
    dropHeld: (packets, why) => ends.push(`${why} ${marks(packets)}`),
    onError: (error) => ends.push(`error ${String(error)}`),
    ...change,
  });
  return { desk: made, clock, asked, ends, installed, rules };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('PuntDesk', () => {
  it('asks once per flow, installs, then puts back in the order of arrival', async () => {
    const { desk: d, asked, ends, installed } = desk();
    for (const mark of [1, 2, 3]) d.take('f', question(1), packet(mark), mark === 1);
    expect(asked).toHaveLength(1);
    expect(d.waiting).toBe(1);
    asked[0]?.answer(decision('controller'));
    await settle();
    expect(installed.map((one) => one.by)).toEqual(['controller']);
    expect(ends).toEqual(['back 1,2,3']);
    expect(d.waiting).toBe(0);
    expect(d.counts).toMatchObject({ flows: 1, controller: 1, lastTables: 0 });
  });

  it('keeps flows apart', async () => {
    const { desk: d, asked, ends } = desk();
    d.take('f', question(1), packet(1), true);
    d.take('g', question(2), packet(2), true);
    asked[1]?.answer(decision('controller'));
    await settle();
    expect(ends).toEqual(['back 2']);
    expect(asked[0]?.question.tuple.sport).toBe(1);
  });

  it('a packet that was on its way here while its flow was decided goes back at once', () => {
    const { desk: d, asked, ends, rules } = desk();
    rules.decided = true;
    d.take('f', question(1), packet(1), false);
    expect(ends).toEqual(['back 1']);
    expect(asked).toHaveLength(0);
    d.take('f', question(1), packet(2), true); // the datapath says that it has no decision: its word counts
    expect(asked).toHaveLength(1);
  });

  it('an answer belongs to the rules that were in force when it was asked for', async () => {
    const { desk: d, asked, installed, rules, clock } = desk();
    d.take('f', question(1), packet(1), true);
    d.take('g', question(2), packet(2), true);
    rules.gen = 2;
    asked[0]?.answer(decision('controller'));
    await settle();
    clock.advance(20);
    d.tick(); // decided alone, from the tables of now
    expect(installed.map((one) => one.rulesGen)).toEqual([1, 2]);
  });

  it('holds a bounded number of packets per flow', () => {
    const { desk: d, ends } = desk();
    for (const mark of [1, 2, 3, 4, 5]) d.take('f', question(1), packet(mark), true);
    expect(ends).toEqual(['punt_full 5']);
  });

  it('holds a bounded number of flows', () => {
    const { desk: d, asked, ends } = desk();
    for (const mark of [1, 2, 3, 4]) d.take(`f${mark}`, question(mark), packet(mark), true);
    expect(asked).toHaveLength(3);
    expect(ends).toEqual(['punt_full 4']);
  });

  it('holds a bounded number of bytes, and has the room again afterwards', async () => {
    const { desk: d, asked, ends } = desk();
    const large = (mark: number): HeldPacket => ({ ...packet(mark), frame: new Uint8Array(600).fill(mark) });
    d.take('f', question(1), large(1), true);
    d.take('f', question(1), large(2), true);
    d.take('g', question(2), large(3), true);
    expect(ends).toEqual(['punt_full 2', 'punt_full 3']);
    asked[0]?.answer(decision('controller'));
    await settle();
    d.take('g', question(2), large(4), true);
    expect(ends).toEqual(['punt_full 2', 'punt_full 3', 'back 1']);
    expect(d.waiting).toBe(1);
  });

  it('decides alone when the deadline has passed, and counts the answer that comes late', async () => {
    const { desk: d, clock, asked, ends, installed } = desk();
    d.take('f', question(1), packet(1), true);
    clock.advance(19);
    d.tick();
    expect(ends).toEqual([]);
    clock.advance(1);
    d.tick();
    expect(ends).toEqual(['back 1']);
    expect(installed.map((one) => one.by)).toEqual(['last-tables']);
    asked[0]?.answer(decision('controller'));
    await settle();
    expect(installed).toHaveLength(1);
    expect(d.counts).toMatchObject({ lateAnswers: 1, lastTables: 1, controller: 0 });
  });

  it('decides alone at once when the controllers cannot answer', async () => {
    const { desk: d, asked, ends } = desk();
    d.take('f', question(1), packet(1), true);
    asked[0]?.fail();
    await settle();
    expect(ends).toEqual(['back 1']);
    expect(d.counts).toMatchObject({ failures: 1, lastTables: 1 });
  });

  it('drops what nobody can decide', () => {
    const { desk: d, clock, ends } = desk({ decideAlone: () => null });
    d.take('f', question(1), packet(1), true);
    clock.advance(20);
    d.tick();
    expect(ends).toEqual(['decision_timeout 1']);
    expect(d.waiting).toBe(0);
  });

  it('drops as conn_full what cannot be recorded: never past the table', async () => {
    const { desk: d, asked, ends } = desk({ install: () => false });
    d.take('f', question(1), packet(1), true);
    asked[0]?.answer(decision('controller'));
    await settle();
    expect(ends).toEqual(['conn_full 1']);
  });

  it('an answer that cannot be installed ends its packets, and nothing else', async () => {
    const {
      desk: d,
      asked,
      ends,
    } = desk({
      install: () => {
        throw new Error('flow.chain: 70000 is no whole number from 0 to 65535');
      },
    });
    d.take('f', question(1), packet(1), true);
    asked[0]?.answer({ ...decision('controller'), chain: 70_000 });
    await settle();
    expect(ends).toEqual([
      'error Error: flow.chain: 70000 is no whole number from 0 to 65535',
      'decision_timeout 1',
    ]);
    expect(d.waiting).toBe(0);
  });

  describe('of a flow that may have begun elsewhere', () => {
    /** Past its deadline, with Redis being asked. */
    function recalling() {
      const recalls: { answer: (one: FlowDecision) => void; fail: () => void }[] = [];
      const made = desk({
        recall: () =>
          new Promise((resolve, reject) =>
            recalls.push({ answer: resolve, fail: () => reject(new Error('gone')) }),
          ),
      });
      made.desk.take('f', question(1), packet(1), true);
      made.clock.advance(21);
      made.desk.tick();
      expect(made.ends).toEqual([]); // held on
      return { ...made, recalls };
    }

    it('what Redis says after the deadline counts, for packets that came meanwhile as well', async () => {
      const { desk: d, recalls, ends, installed } = recalling();
      d.take('f', question(1), packet(2), false);
      recalls[0]?.answer(decision('redis'));
      await settle();
      expect(installed.map(({ by }) => by)).toEqual(['redis']);
      expect(ends).toEqual(['back 1,2']);
      expect(d.counts).toMatchObject({ flows: 1, redis: 1, lastTables: 0, controller: 0 });
      expect([d.waiting, d.remembered]).toEqual([0, 0]);
    });

    it('a controller that answers before Redis does is heard, and Redis no more', async () => {
      const { asked, recalls, ends, installed } = recalling();
      asked[0]?.answer(decision('controller'));
      await settle();
      recalls[0]?.answer(decision('redis'));
      await settle();
      expect(installed.map(({ by }) => by)).toEqual(['controller']);
      expect(ends).toEqual(['back 1']);
    });

    it('the last tables decide once neither answers', async () => {
      const { asked, recalls, ends, installed } = recalling();
      asked[0]?.fail();
      await settle();
      expect(recalls).toHaveLength(1); // it is asked already
      recalls[0]?.fail();
      await settle();
      expect(installed.map(({ by }) => by)).toEqual(['last-tables']);
      expect(ends).toEqual(['back 1']);
    });
  });

  it('deadlines come in order over many flows, and nothing of them is kept', () => {
    const { desk: d, clock, ends } = desk({ maxFlows: 100_000 });
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 100; i++) d.take(`${round}/${i}`, question(i), packet(i), true);
      clock.advance(5);
      d.tick();
    }
    clock.advance(20);
    d.tick();
    expect(ends).toHaveLength(5_000);
    expect(ends.slice(0, 3)).toEqual(['back 0', 'back 1', 'back 2']);
    expect(d.waiting).toBe(0);
    expect(d.remembered).toBe(0);
  });
});
