// SPDX-License-Identifier: Apache-2.0
import { bfdDiag } from '@detour/wire';
import { describe, expect, it } from 'vitest';
import { type Echo, echoDetectAtUs, newEcho, nextEchoAtUs, stepEcho } from './echo-logic.js';

const timers = { everyUs: 50_000, multiplier: 3 };

/** Runs an echo through a node that returns packets after `rttUs` until `stopsAtUs`; gives back the changes of state. */
function runThroughNode(options: { untilUs: number; rttUs: number; stopsAtUs: number; startsAtUs?: number }) {
  let echo: Echo = newEcho(timers, 5);
  let nowUs = 0;
  const inFlight: number[] = [];
  const changes: { atUs: number; to: string; diag: number }[] = [];
  const sentAtUs: number[] = [];
  for (;;) {
    const due = Math.min(nextEchoAtUs(echo), echoDetectAtUs(echo) ?? Number.POSITIVE_INFINITY);
    const back = inFlight[0] ?? Number.POSITIVE_INFINITY;
    nowUs = Math.max(nowUs, Math.min(due, back));
    if (nowUs > options.untilUs) return { echo, changes, sentAtUs };
    const kind = back <= due ? 'returned' : 'tick';
    if (kind === 'returned') inFlight.shift();
    const [next, effects] = stepEcho(echo, {
      ...(kind === 'returned' ? { kind, tookUs: options.rttUs } : { kind }),
      nowUs,
      random: 0.999,
    });
    echo = next;
    for (const effect of effects) {
      if (effect.kind === 'changed') changes.push({ atUs: nowUs, to: effect.to, diag: effect.diag });
      else {
        sentAtUs.push(nowUs);
        expect(effect.packet).toMatchObject({ myDiscr: 5, requiredMinEchoRxUs: 0, detectMult: 3 });
        if (nowUs < options.stopsAtUs && nowUs >= (options.startsAtUs ?? 0))
          inFlight.push(nowUs + options.rttUs);
      }
    }
  }
}

describe('unaffiliated echo (RFC 9747)', () => {
  it('comes up after two packets crossed the node, and then runs at its own rate', () => {
    const { echo, changes, sentAtUs } = runThroughNode({
      untilUs: 1_000_000,
      rttUs: 300,
      stopsAtUs: 2_000_000,
    });
    expect(changes).toEqual([
      { atUs: 300, to: 'init', diag: 0 },
      { atUs: 600, to: 'up', diag: 0 },
    ]);
    expect(sentAtUs.length).toBeGreaterThanOrEqual(20);
    expect(echo.rttUs).toBe(300);
  });

  it('goes down three intervals after the last packet that returned, with diagnostic 2, and then probes slowly', () => {
    const { echo, changes, sentAtUs } = runThroughNode({
      untilUs: 3_000_000,
      rttUs: 300,
      stopsAtUs: 500_000,
    });
    const lastBack = Math.max(...sentAtUs.filter((at) => at < 500_000)) + 300;
    expect(changes.at(-1)).toEqual({
      atUs: lastBack + 150_000,
      to: 'down',
      diag: bfdDiag.echoFunctionFailed,
    });
    expect(echo.state).toBe('down');
    expect(sentAtUs.filter((at) => at > 700_000).length).toBeLessThanOrEqual(3);
  });

  it('never comes up through a node that does not forward, and does not count that as a failure of something', () => {
    const { echo, changes } = runThroughNode({ untilUs: 5_000_000, rttUs: 300, stopsAtUs: 0 });
    expect(echo.state).toBe('down');
    expect(changes).toEqual([]);
  });

  it('falls back from Init when the second packet is lost', () => {
    let [echo] = stepEcho(newEcho(timers, 5), { kind: 'tick', nowUs: 0, random: 0 });
    [echo] = stepEcho(echo, { kind: 'returned', tookUs: 50, nowUs: 100, random: 0 });
    expect(echo.state).toBe('init');
    [echo] = stepEcho(echo, { kind: 'tick', nowUs: 100 + 3_000_000, random: 0 });
    expect(echo.state).toBe('down');
  });

  it('forgets everything when the device is gone', () => {
    let [echo] = stepEcho(newEcho(timers, 5), { kind: 'tick', nowUs: 0, random: 0 });
    [echo] = stepEcho(echo, { kind: 'returned', tookUs: 50, nowUs: 100, random: 0 });
    [echo] = stepEcho(echo, { kind: 'returned', tookUs: 50, nowUs: 200, random: 0 });
    expect(echo.state).toBe('up');
    const [gone, effects] = stepEcho(echo, { kind: 'path-down', nowUs: 300, random: 0 });
    expect(gone).toMatchObject({ state: 'down', diag: bfdDiag.pathDown, lastTxUs: null });
    expect(effects).toEqual([{ kind: 'changed', from: 'up', to: 'down', diag: bfdDiag.pathDown }]);
  });

  it('takes new timers without leaving Up', () => {
    let [echo] = stepEcho(newEcho(timers, 5), { kind: 'tick', nowUs: 0, random: 0 });
    [echo] = stepEcho(echo, { kind: 'returned', tookUs: 50, nowUs: 100, random: 0 });
    [echo] = stepEcho(echo, { kind: 'returned', tookUs: 50, nowUs: 200, random: 0 });
    [echo] = stepEcho(echo, {
      kind: 'timers',
      nowUs: 300,
      random: 0,
      timers: { everyUs: 10_000, multiplier: 5 },
    });
    expect(echo.state).toBe('up');
    expect(echoDetectAtUs(echo)).toBe(200 + 50_000);
  });
});
