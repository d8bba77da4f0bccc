// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { ratioFigure, valueFigure } from './figure.js';
import { formatQuantity, tableText } from './report.js';

describe('report', () => {
  it('scales rates and leaves other units alone', () => {
    expect(formatQuantity(1_234_567, '/s')).toBe('1.23 M/s');
    expect(formatQuantity(43_210, '/s')).toBe('43.2 k/s');
    expect(formatQuantity(1500, 'ns')).toBe('1500 ns');
  });

  it('divides round by round, not median by median', () => {
    const figure = ratioFigure({
      name: 'x.y',
      unit: '/s',
      values: [10, 40, 90],
      baselines: [10, 20, 30],
      goal: { of: 'ratio', above: 2 },
    });
    expect(figure).toMatchObject({ value: 40, baseline: 20, ratio: 2, goal: '> 2', met: false });
  });

  it('shows a goal that is met and one that is missed', () => {
    const figures = [
      valueFigure({ name: 'a', unit: 'ms', values: [3], goal: { of: 'value', atMost: 5 } }),
      valueFigure({ name: 'b', unit: 'ms', values: [7], goal: { of: 'value', atMost: 5 } }),
    ];
    const [, first, second] = tableText(figures).split('\n');
    expect(first).toMatch(/^a .*≤ 5 absolute +met$/);
    expect(second).toMatch(/^b .*≤ 5 absolute +missed$/);
  });
});
