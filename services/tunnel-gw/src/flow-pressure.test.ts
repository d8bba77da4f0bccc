// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { FlowPressure } from './flow-pressure.js';

function pressure(alarmAt = 90) {
  let nowMs = 0;
  const watch = new FlowPressure(alarmAt, () => nowMs);
  return {
    look: (flows: number, refused = 0) => watch.look({ flows, limit: 1_000, refused }),
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

describe('FlowPressure', () => {
  it('speaks up at the threshold, and is silent again once there is room to spare', () => {
    const { look } = pressure();
    expect(look(899)).toBeNull();
    expect(look(900)).toContain('take 90 % of their table of 1000');
    expect(look(800)).toContain('80 %');
    expect(look(799)).toBeNull();
    expect(look(899)).toBeNull();
  });

  it('speaks up when something found no room, however many flows there are, for a minute', () => {
    const { look, pass } = pressure();
    expect(look(10, 0)).toBeNull();
    expect(look(10, 7)).toContain('so far 7 packets and flows found no room');
    pass(59_999);
    expect(look(10, 7)).not.toBeNull();
    pass(1);
    expect(look(10, 7)).toBeNull();
  });

  it('says nothing of what a predecessor had no room for', () => {
    const { look } = pressure();
    expect(look(10, 500)).toBeNull();
    expect(look(10, 500)).toBeNull();
  });
});
