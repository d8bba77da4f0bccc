// SPDX-License-Identifier: Apache-2.0

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BfdPacket, bfdDiag } from './bfd.js';
import {
  detectAtUs,
  detectTimeUs,
  newSession,
  nextTxAtUs,
  type Session,
  type SessionEffect,
  type SessionInput,
  step,
  txIntervalUs,
} from './bfd-session.js';

const fast = { desiredMinTxUs: 50_000, requiredMinRxUs: 50_000, detectMult: 3 };
const ms = 1_000;

/** A session with its clock: turns time by hand and keeps what it was told to do. */
class Turned {
  session: Session;
  nowUs = 0;
  random = 0.5;
  readonly log: SessionEffect[] = [];
  constructor(timers = fast, discr = 7) {
    this.session = newSession(timers, discr);
  }
  do(input: Omit<Extract<SessionInput, { kind: 'packet' }>, 'nowUs' | 'random'>): SessionEffect[];
  do(input: Omit<Extract<SessionInput, { kind: 'tick' | 'path-down' }>, 'nowUs' | 'random'>): SessionEffect[];
  do(input: Omit<Extract<SessionInput, { kind: 'timers' }>, 'nowUs' | 'random'>): SessionEffect[];
  do(input: Omit<Extract<SessionInput, { kind: 'admin' }>, 'nowUs' | 'random'>): SessionEffect[];
  do(input: object): SessionEffect[] {
    const full = { ...input, nowUs: this.nowUs, random: this.random } as SessionInput;
    const [session, effects] = step(this.session, full);
    this.session = session;
    this.log.push(...effects);
    return [...effects];
  }
  hear(packet: Partial<BfdPacket>): SessionEffect[] {
    return this.do({ kind: 'packet', packet: { ...peer, ...packet } });
  }
  /** Ticks at each due time up to `untilUs`, as the loop would. */
  run(untilUs: number): SessionEffect[] {
    const effects: SessionEffect[] = [];
    for (;;) {
      const due = Math.min(
        nextTxAtUs(this.session) ?? Number.POSITIVE_INFINITY,
        detectAtUs(this.session) ?? Number.POSITIVE_INFINITY,
      );
      if (due > untilUs) break;
      this.nowUs = Math.max(this.nowUs, due);
      effects.push(...this.do({ kind: 'tick' }));
    }
    this.nowUs = untilUs;
    return effects;
  }
}

const peer: BfdPacket = {
  diag: 0,
  state: 'down',
  poll: false,
  final: false,
  controlPlaneIndependent: false,
  demand: false,
  detectMult: 3,
  myDiscr: 99,
  yourDiscr: 7,
  desiredMinTxUs: 50_000,
  requiredMinRxUs: 50_000,
  requiredMinEchoRxUs: 0,
};

const sends = (effects: readonly SessionEffect[]) =>
  effects.flatMap((effect) => (effect.kind === 'send' ? [effect.packet] : []));
const changes = (effects: readonly SessionEffect[]) =>
  effects.flatMap((effect) => (effect.kind === 'changed' ? [`${effect.from}>${effect.to}`] : []));

function broughtUp(timers = fast): Turned {
  const turned = new Turned(timers);
  turned.do({ kind: 'tick' });
  turned.hear({ state: 'down', yourDiscr: 0 });
  turned.hear({ state: 'init' });
  turned.hear({ state: 'up', final: true });
  expect(turned.session.state).toBe('up');
  expect(turned.session.poll).toBe('idle');
  return turned;
}

describe('session states (RFC 5880 section 6.2)', () => {
  it('comes up step by step against Down, Init and Up of the peer', () => {
    const turned = new Turned();
    expect(sends(turned.do({ kind: 'tick' }))).toMatchObject([
      { state: 'down', yourDiscr: 0, desiredMinTxUs: 1_000_000 },
    ]);
    const init = turned.hear({ state: 'down', yourDiscr: 0 });
    expect(changes(init)).toEqual(['down>init']);
    expect(sends(init)).toMatchObject([{ state: 'init', yourDiscr: 99 }]);
    const up = turned.hear({ state: 'init' });
    expect(changes(up)).toEqual(['init>up']);
    expect(sends(up)).toMatchObject([{ state: 'up', poll: true, desiredMinTxUs: 50_000 }]);
    expect(changes(turned.hear({ state: 'up' }))).toEqual([]);
  });

  it.each([
    ['down', 'admin-down', 'down'],
    ['down', 'down', 'init'],
    ['down', 'init', 'up'],
    ['down', 'up', 'down'],
    ['init', 'admin-down', 'down'],
    ['init', 'down', 'init'],
    ['init', 'init', 'up'],
    ['init', 'up', 'up'],
    ['up', 'admin-down', 'down'],
    ['up', 'down', 'down'],
    ['up', 'init', 'up'],
    ['up', 'up', 'up'],
    ['admin-down', 'admin-down', 'admin-down'],
    ['admin-down', 'down', 'admin-down'],
    ['admin-down', 'init', 'admin-down'],
    ['admin-down', 'up', 'admin-down'],
  ] as const)('%s hears %s: %s', (ours, heard, then) => {
    const turned = new Turned();
    turned.session = { ...turned.session, state: ours };
    turned.hear({ state: heard });
    expect(turned.session.state).toBe(then);
    if (ours === 'up' && then === 'down')
      expect(turned.session.diag).toBe(bfdDiag.neighborSignaledSessionDown);
  });

  it('goes down when the detection time passes, not a microsecond before', () => {
    const turned = broughtUp();
    expect(detectTimeUs(turned.session)).toBe(150 * ms);
    expect(changes(turned.run(150 * ms - 1))).toEqual([]);
    const effects = turned.run(150 * ms);
    expect(changes(effects)).toEqual(['up>down']);
    expect(turned.session.diag).toBe(bfdDiag.controlDetectionTimeExpired);
    expect(sends(effects)).toMatchObject([{ state: 'down', diag: 1, yourDiscr: 0 }]);
  });

  it('stays up while packets come', () => {
    const turned = broughtUp();
    for (let i = 1; i <= 100; i++) {
      expect(changes(turned.run(i * 140 * ms))).toEqual([]);
      turned.hear({ state: 'up' });
    }
  });

  it('leaves Up when the way to the peer is gone, with diagnostic 5', () => {
    const turned = broughtUp();
    turned.do({ kind: 'path-down' });
    expect(turned.session).toMatchObject({ state: 'down', diag: bfdDiag.pathDown, lastRxUs: null });
    expect(turned.do({ kind: 'path-down' })).toEqual([]);
  });
});

describe('transmission (RFC 5880 sections 6.8.2, 6.8.3, 6.8.7)', () => {
  it('sends at 750-1000 ms until Up, whatever fast values are asked', () => {
    const turned = new Turned();
    turned.do({ kind: 'tick' });
    turned.random = 0;
    expect(nextTxAtUs(turned.session)).toBe(875 * ms);
    turned.session = { ...turned.session, jitter: 0 };
    expect(nextTxAtUs(turned.session)).toBe(750 * ms);
    turned.hear({ state: 'down', yourDiscr: 0, requiredMinRxUs: 10_000 });
    expect(txIntervalUs(turned.session)).toBe(1_000_000);
  });

  it('keeps the jitter in 75-100 %, and in 75-90 % with a multiplier of 1', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.boolean(),
        (random, single) => {
          const turned = broughtUp({ ...fast, detectMult: single ? 1 : 3 });
          turned.random = random;
          turned.nowUs = 100 * ms;
          turned.do({ kind: 'tick' });
          const wait = (nextTxAtUs(turned.session) ?? Number.NaN) - 100 * ms;
          expect(wait).toBeGreaterThanOrEqual(37_500);
          expect(wait).toBeLessThanOrEqual(single ? 45_000 : 50_000);
        },
      ),
    );
  });

  it('follows the slower of both sides', () => {
    const turned = broughtUp();
    turned.hear({ state: 'up', requiredMinRxUs: 200_000, desiredMinTxUs: 400_000, detectMult: 5 });
    expect(txIntervalUs(turned.session)).toBe(200_000);
    expect(detectTimeUs(turned.session)).toBe(5 * 400_000);
  });

  it('sends sooner at once when the peer accepts a faster rate', () => {
    const turned = broughtUp();
    turned.hear({ state: 'up', requiredMinRxUs: 5_000_000 });
    turned.run(100 * ms);
    turned.hear({ state: 'up', requiredMinRxUs: 50_000 });
    expect(nextTxAtUs(turned.session)).toBeLessThanOrEqual(100 * ms);
  });

  it('sends nothing periodic to a peer that asks for none', () => {
    const turned = broughtUp();
    turned.hear({ state: 'up', requiredMinRxUs: 0, desiredMinTxUs: 1_000_000 });
    expect(sends(turned.run(900 * ms))).toEqual([]);
    expect(sends(turned.hear({ state: 'up', poll: true, requiredMinRxUs: 0 }))).toMatchObject([
      { final: true },
    ]);
  });

  it('tolerates demand mode of the peer: silent when both are Up, polls still answered, failure still told', () => {
    const turned = broughtUp();
    turned.hear({ state: 'up', demand: true, desiredMinTxUs: 1_000_000 });
    expect(sends(turned.run(2_999 * ms))).toEqual([]);
    expect(sends(turned.hear({ state: 'up', demand: true, poll: true }))).toMatchObject([
      { final: true, poll: false },
    ]);
    expect(sends(turned.hear({ state: 'down', demand: true }))).toMatchObject([{ state: 'down', diag: 3 }]);
    expect(nextTxAtUs(turned.session)).not.toBeNull();
  });
});

describe('polls (RFC 5880 sections 6.5, 6.8.3)', () => {
  it('answers a poll at once, beside the periodic packets', () => {
    const turned = broughtUp();
    const before = nextTxAtUs(turned.session);
    turned.nowUs = 10 * ms;
    expect(sends(turned.hear({ state: 'up', poll: true }))).toMatchObject([
      { final: true, poll: false, state: 'up' },
    ]);
    expect(nextTxAtUs(turned.session)).toBe(before);
  });

  it('keeps P until F comes', () => {
    const turned = broughtUp();
    turned.do({ kind: 'timers', timers: { ...fast, desiredMinTxUs: 60_000 } });
    turned.hear({ state: 'up', desiredMinTxUs: 1_000_000 });
    expect(sends(turned.run(500 * ms)).every((packet) => packet.poll)).toBe(true);
    turned.hear({ state: 'up', final: true, desiredMinTxUs: 1_000_000 });
    const after = sends(turned.run(900 * ms));
    expect(after.length).toBeGreaterThan(3);
    expect(after.some((packet) => packet.poll)).toBe(false);
  });

  it('applies a slower rate only after the peer has agreed', () => {
    const turned = broughtUp();
    const slower = { desiredMinTxUs: 300_000, requiredMinRxUs: 20_000, detectMult: 3 };
    expect(sends(turned.do({ kind: 'timers', timers: slower }))).toMatchObject([
      { poll: true, desiredMinTxUs: 300_000, requiredMinRxUs: 20_000 },
    ]);
    turned.hear({ state: 'up', desiredMinTxUs: 10_000 });
    expect(txIntervalUs(turned.session)).toBe(50_000);
    expect(detectTimeUs(turned.session)).toBe(3 * 50_000);
    turned.hear({ state: 'up', desiredMinTxUs: 10_000, final: true });
    expect(txIntervalUs(turned.session)).toBe(300_000);
    expect(detectTimeUs(turned.session)).toBe(3 * 20_000);
  });

  it('applies a faster rate at once, and polls again for a change during a poll', () => {
    const turned = broughtUp();
    turned.do({ kind: 'timers', timers: { ...fast, desiredMinTxUs: 300_000 } });
    turned.do({ kind: 'timers', timers: { ...fast, desiredMinTxUs: 20_000, requiredMinRxUs: 80_000 } });
    expect(turned.session).toMatchObject({ poll: 'again', activeMinTxUs: 20_000, activeMinRxUs: 80_000 });
    turned.hear({ state: 'up', final: true });
    expect(turned.session.poll).toBe('active');
    turned.hear({ state: 'up', final: true });
    expect(turned.session.poll).toBe('idle');
  });

  it('changes the multiplier without a poll, and does nothing for equal values', () => {
    const turned = broughtUp();
    expect(sends(turned.do({ kind: 'timers', timers: { ...fast, detectMult: 9 } }))).toMatchObject([
      { detectMult: 9, poll: false },
    ]);
    expect(turned.do({ kind: 'timers', timers: { ...fast, detectMult: 9 } })).toEqual([]);
  });
});

describe('administrative control (RFC 5880 section 6.8.16)', () => {
  it('tells AdminDown at once, goes on telling it slowly, and ignores the peer', () => {
    const turned = broughtUp();
    const effects = turned.do({ kind: 'admin', down: true });
    expect(changes(effects)).toEqual(['up>admin-down']);
    expect(sends(effects)).toMatchObject([{ state: 'admin-down', diag: 7, desiredMinTxUs: 1_000_000 }]);
    expect(turned.hear({ state: 'up', poll: true })).toEqual([]);
    expect(sends(turned.run(3_000 * ms)).every((packet) => packet.state === 'admin-down')).toBe(true);
    expect(turned.do({ kind: 'admin', down: true })).toEqual([]);
    expect(changes(turned.do({ kind: 'admin', down: false }))).toEqual(['admin-down>down']);
  });

  it('goes down with diagnostic 3 when the peer says AdminDown, and keeps knowing that it said so', () => {
    const turned = broughtUp();
    turned.hear({ state: 'admin-down', diag: 7 });
    expect(turned.session).toMatchObject({
      state: 'down',
      diag: 3,
      remote: { state: 'admin-down', diag: 7 },
    });
  });
});

describe('any order of events', () => {
  const anyInput = fc.oneof(
    fc.record({
      kind: fc.constant('packet' as const),
      packet: fc.record({
        diag: fc.nat(31),
        state: fc.constantFrom('admin-down', 'down', 'init', 'up'),
        poll: fc.boolean(),
        final: fc.boolean(),
        demand: fc.boolean(),
        detectMult: fc.integer({ min: 1, max: 255 }),
        desiredMinTxUs: fc.nat(4_000_000),
        requiredMinRxUs: fc.nat(4_000_000),
      }),
    }),
    fc.record({ kind: fc.constant('wait' as const), us: fc.nat(3_000_000) }),
    fc.record({ kind: fc.constant('admin' as const), down: fc.boolean() }),
    fc.record({ kind: fc.constant('path-down' as const) }),
    fc.record({
      kind: fc.constant('timers' as const),
      timers: fc.record({
        desiredMinTxUs: fc.integer({ min: 10_000, max: 2_000_000 }),
        requiredMinRxUs: fc.integer({ min: 10_000, max: 2_000_000 }),
        detectMult: fc.integer({ min: 1, max: 255 }),
      }),
    }),
  );

  it('never sends P with F, never sends fast outside Up, never stays Up in silence', () => {
    fc.assert(
      fc.property(fc.array(anyInput, { maxLength: 40 }), (inputs) => {
        const turned = new Turned();
        for (const input of inputs) {
          if (input.kind === 'packet') turned.hear(input.packet as Partial<BfdPacket>);
          else if (input.kind === 'wait') turned.run(turned.nowUs + input.us);
          else if (input.kind === 'timers') turned.do(input);
          else if (input.kind === 'admin') turned.do(input);
          else turned.do(input);
          if (turned.session.state === 'up') expect(turned.session.lastRxUs).not.toBeNull();
          else expect(txIntervalUs(turned.session)).toBeGreaterThanOrEqual(1_000_000);
        }
        for (const packet of sends(turned.log)) {
          expect(packet.poll && packet.final).toBe(false);
          if (packet.state === 'init' || packet.state === 'up') expect(packet.yourDiscr).toBe(99);
          if (packet.state !== 'up') expect(packet.desiredMinTxUs).toBeGreaterThanOrEqual(1_000_000);
        }
      }),
    );
  });
});
