// SPDX-License-Identifier: Apache-2.0
import { manualClock } from '@detour/core';
import { expect, it } from 'vitest';
import { CONFLICT_FOR_MS, LAG_AFTER_MS, PinAlarms } from './pin-alarms.js';

function start() {
  const clock = manualClock();
  const raised = new Map<string, string>();
  const pins = new PinAlarms({
    clock,
    affinity: { onConnectionChange: () => () => {}, onRefusalChange: () => () => {} },
    alarms: {
      raise: (code, _subject, text) => void raised.set(code, text),
      clear: (code) => void raised.delete(code),
    },
  });
  return { clock, raised, pins };
}

it('tells of a lag when every sweep for ten seconds follows a write that failed, and takes it back after one that does not', () => {
  const { clock, raised, pins } = start();
  for (let ms = 0; ms < LAG_AFTER_MS; ms += 2_000) {
    pins.notWritten();
    pins.swept(7);
    expect(raised.has('pins_lag')).toBe(false);
    clock.advance(2_000);
  }
  pins.notWritten();
  pins.swept(7);
  expect(raised.get('pins_lag')).toMatch(/for 10 s: 7 of this gateway's are not there/);
  clock.advance(2_000);
  pins.swept(0);
  expect(raised.has('pins_lag')).toBe(false);
});

it('tells of conflicts with their number, for a minute after the last', () => {
  const { clock, raised, pins } = start();
  pins.conflict();
  clock.advance(CONFLICT_FOR_MS - 1);
  pins.conflict();
  expect(raised.get('pins_conflict')).toMatch(/^2 flows/);
  clock.advance(CONFLICT_FOR_MS - 1);
  expect(raised.has('pins_conflict')).toBe(true);
  clock.advance(1);
  expect(raised.has('pins_conflict')).toBe(false);
});
