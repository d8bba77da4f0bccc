// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { countAxis, linearAxis, logAxis, placeOn, timeAxis } from './axis.js';
import { type Panel, plotSvg } from './chart.js';

describe('axes', () => {
  it('end at round numbers around the values', () => {
    expect(linearAxis([3, 17.2], { label: '%' })).toMatchObject({ min: 0, max: 20 });
    expect(linearAxis([3, 17.2], { label: '%' }).ticks.map(({ text }) => text)).toEqual([
      '0',
      '5',
      '10',
      '15',
      '20',
    ]);
    expect(linearAxis([0.3], { label: '%' }).ticks.map(({ text }) => text)).toEqual([
      '0',
      '0.1',
      '0.2',
      '0.3',
    ]);
    expect(linearAxis([], { label: '%' }).max).toBeGreaterThan(0);
    expect(logAxis([0.4, 0, 52, Number.NaN], { label: 'ms' }).ticks.map(({ text }) => text)).toEqual([
      ...['0.1', '1', '10', '100'],
    ]);
    expect(countAxis([2, 1024], { label: 'paths' })).toMatchObject({ min: 2, max: 1024, scale: 'log' });
    expect(timeAxis(86_400_000).ticks.map(({ text }) => text)).toContain('21:00');
  });

  it('place values between their ends, and what is beyond at the end', () => {
    expect(placeOn(linearAxis([0, 10], { label: '' }), 2.5)).toBeCloseTo(0.25, 9);
    expect(placeOn(logAxis([1, 100], { label: '' }), 10)).toBeCloseTo(0.5, 9);
    expect(placeOn(logAxis([1, 100], { label: '' }), 0)).toBe(0);
    expect(placeOn(linearAxis([0, 10], { label: '' }), 99)).toBe(1);
  });
});

describe('plotSvg', () => {
  const panel: Panel = {
    title: 'less < more & so on',
    x: linearAxis([0, 10], { label: 'time' }),
    y: linearAxis([0, 4], { label: '% of it' }),
    series: [
      {
        name: 'a line',
        as: 'line',
        colour: 0,
        points: [
          [0, 0],
          [5, Number.NaN],
          [10, 4],
        ],
      },
      { name: 'dots', as: 'rings', colour: 4, points: [[5, 2]] },
    ],
    bands: [{ name: 'a rack', from: 2, to: 4 }],
  };
  const svg = plotSvg({ title: 'A plot', notes: ['how'], columns: 1, panels: [panel, panel] });

  it('closes every element that it opens, and escapes text', () => {
    const open: string[] = [];
    for (const [, end, name = '', self] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
      if (end === '/') expect(open.pop()).toBe(name);
      else if (self !== '/') open.push(name);
    }
    expect(open).toEqual([]);
    expect(svg).toContain('less &lt; more &amp; so on');
  });

  it('has a legend, units and marks, colours for dark, and leaves out what is no number', () => {
    for (const text of ['>a line<', '>dots<', '>% of it<', '>time<', '>4<', '>a rack<'])
      expect(svg).toContain(text);
    expect(svg).toContain('prefers-color-scheme: dark');
    const [, points = ''] = /<polyline class="line s0" points="([^"]*)"/.exec(svg) ?? [];
    expect(points.split(' ')).toEqual([expect.stringMatching(/^0,/), expect.stringMatching(/,0$/)]);
    expect(svg).not.toContain('NaN');
  });

  it('is the same for the same panels', () => {
    expect(plotSvg({ title: 'A plot', notes: ['how'], columns: 1, panels: [panel, panel] })).toBe(svg);
  });
});
