// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { LineBudget, type LineKind } from './line-budget.js';

function budget(perS: number) {
  let nowMs = 0;
  const lines = new LineBudget(perS, () => nowMs);
  const takeAll = (kind: LineKind): number => {
    let taken = 0;
    while (lines.take(kind)) taken++;
    return taken;
  };
  return {
    lines,
    takeAll,
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

describe('LineBudget', () => {
  it('lets in so many a second, and ten seconds of them at once', () => {
    const { takeAll, pass } = budget(100);
    expect(takeAll('end')).toBe(1_000);
    pass(1_000);
    expect(takeAll('end')).toBe(100);
    pass(3_600_000);
    expect(takeAll('end')).toBe(1_000);
  });

  it('what is nothing but an opening gives way to starts, and starts to ends', () => {
    const { takeAll } = budget(100);
    expect([takeAll('opening'), takeAll('start'), takeAll('change'), takeAll('end')]).toEqual([
      500, 250, 0, 250,
    ]);
  });

  it('counts what it does not let in, by kind', () => {
    const { lines, takeAll } = budget(1);
    takeAll('end');
    for (let i = 0; i < 4; i++) lines.take('opening');
    lines.take('start');
    expect(lines.leftOut).toEqual({ end: 1, start: 1, change: 0, opening: 4 });
  });
});
