// SPDX-License-Identifier: Apache-2.0
import { manualClock } from '@detour/core';
import { describe, expect, it } from 'vitest';
import { Announcement } from './announcement.js';

const GRACE_MS = 10_000;

function begin({ announced = false } = {}) {
  const clock = manualClock();
  const told: string[] = [];
  const announcement = new Announcement({
    ...{ clock, graceMs: GRACE_MS, announced },
    onChange: (now) => void told.push(now.announced ? 'announced' : now.why),
  });
  return { clock, told, announcement };
}

function announced() {
  const begun = begin();
  begun.announcement.settled();
  begun.announcement.heard();
  expect(begun.told).toEqual(['announced']);
  begun.told.length = 0;
  return begun;
}

describe('Announcement', () => {
  it('begins when tunnel-gw has said that it steers and the health of nodes is known, whichever comes first', () => {
    const { announcement, told, clock } = begin();
    expect(announcement.state).toEqual({
      announced: false,
      why: 'tunnel-gw has not said yet that it steers',
    });
    announcement.heard();
    announcement.settled();
    expect(told).toEqual(['the health of nodes is not known yet', 'announced']);
    expect(announced().announcement.state).toEqual({ announced: true, why: '' });
    clock.advance(1);
  });

  it('outlives a silence of tunnel-gw as long as its grace, and no longer', () => {
    const { announcement, told, clock } = announced();
    clock.advance(GRACE_MS - 1);
    announcement.heard();
    clock.advance(GRACE_MS - 1);
    expect(told).toEqual([]);
    clock.advance(1);
    expect(told).toEqual(['tunnel-gw has been away for 10 s (DETOUR_ANNOUNCE_GRACE)']);
    announcement.heard();
    expect(told[1]).toBe('announced');
  });

  it('ends at once with an objection, and comes back when the last of them is gone', () => {
    const { announcement, told } = announced();
    announcement.object('datapath', 'no program is on eth1');
    announcement.object('drain', 'drained');
    announcement.heard();
    announcement.object('datapath', null);
    announcement.object('datapath', null);
    announcement.object('drain', null);
    expect(told).toEqual(['no program is on eth1', 'drained', 'announced']);
  });

  it('an objection holds while tunnel-gw is away, and its absence when the objection is over', () => {
    const { announcement, told, clock } = announced();
    announcement.object('drain', 'drained');
    clock.advance(GRACE_MS);
    expect(announcement.isDrained).toBe(true);
    announcement.object('drain', null);
    expect(told).toEqual(['drained', 'tunnel-gw has been away for 10 s (DETOUR_ANNOUNCE_GRACE)']);
  });

  it('what a predecessor announced stays so for the grace, without a word of nodes', () => {
    const { announcement, told, clock } = begin({ announced: true });
    clock.advance(GRACE_MS - 1);
    expect(announcement.state.announced).toBe(true);
    expect(told).toEqual([]);
    clock.advance(1);
    expect(told).toEqual(['tunnel-gw has been away for 10 s (DETOUR_ANNOUNCE_GRACE)']);
  });
});
