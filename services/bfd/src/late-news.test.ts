// SPDX-License-Identifier: Apache-2.0
import { manualClock } from '@detour/core';
import { describe, expect, it } from 'vitest';
import type { Health } from './health.js';
import { HealthBoard } from './health-board.js';
import { LateNews } from './late-news.js';

const row = (state: Health['state']) => ({
  ...{
    id: 'a',
    node: 'a',
    vrf: '',
    end: null,
    why: '',
    source: 'bfd' as const,
    atMonoNs: 1n,
    detectTimeUs: 0,
  },
  state,
});

describe('LateNews', () => {
  it('tells everything, in order, after the readers that act on it', () => {
    const board = new HealthBoard();
    const clock = manualClock();
    const told: string[] = [];
    const stop = new LateNews(board, clock).listen(({ rows }) => told.push(`late ${rows[0]?.state}`));
    board.listen(({ rows }) => told.push(`now ${rows[0]?.state}`));
    board.take([row('up')], true);
    board.take([row('down')], false);
    expect(told).toEqual(['now up', 'now down']);
    clock.advance(20);
    expect(told.slice(2)).toEqual(['late up', 'late down']);
    board.take([row('up')], false);
    stop();
    clock.advance(20);
    expect(told.slice(4)).toEqual(['now up']);
  });
});
