// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { InstanceChoice, rankInstances } from './rendezvous.js';

const five = ['a:1', 'b:1', 'c:1', 'd:1', 'e:1'];

describe('rankInstances', () => {
  it('gives the same order for every order of the list, and spreads gateways', () => {
    expect(rankInstances('edge1', [...five].reverse())).toEqual(rankInstances('edge1', five));
    const firsts = new Set(Array.from({ length: 60 }, (_, i) => rankInstances(`edge${i}`, five)[0]));
    expect(firsts.size).toBe(5);
  });
  it('moves only the gateways of an instance that is gone', () => {
    for (let i = 0; i < 50; i++) {
      const before = rankInstances(`edge${i}`, five)[0];
      const after = rankInstances(
        `edge${i}`,
        five.filter((one) => one !== 'c:1'),
      )[0];
      if (before !== 'c:1') expect(after).toBe(before);
    }
  });
});

describe('InstanceChoice', () => {
  it('leaves a failed instance alone for 100 ms, then longer, up to 2 s, until it worked', () => {
    const choice = new InstanceChoice();
    const [first = '', second = ''] = rankInstances('edge1', five);
    choice.failed(first, 0);
    expect(choice.choose('edge1', five, 99)).toBe(second);
    expect(choice.choose('edge1', five, 100)).toBe(first);
    choice.failed(first, 100);
    expect(choice.choose('edge1', five, 299)).toBe(second);
    expect(choice.choose('edge1', five, 300)).toBe(first);
    for (let i = 0; i < 9; i++) choice.failed(first, 300);
    expect(choice.choose('edge1', five, 2_299)).toBe(second);
    expect(choice.choose('edge1', five, 2_300)).toBe(first);
    choice.worked(first);
    choice.failed(first, 0);
    expect(choice.choose('edge1', five, 100)).toBe(first);
  });
  it('has nobody when all failed or none is there', () => {
    const choice = new InstanceChoice();
    expect(choice.choose('x', [], 0)).toBeNull();
    choice.failed('a:1', 0);
    expect(choice.choose('x', ['a:1'], 50)).toBeNull();
  });
});
