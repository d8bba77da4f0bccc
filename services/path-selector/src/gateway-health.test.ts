// SPDX-License-Identifier: Apache-2.0
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { GatewayHealth } from './gateway-health.js';
import { exampleText } from './testdata.js';

function health() {
  const held = new GatewayHealth();
  held.setPolicies(revisionOf(exampleText({ firewalls: ['health: fast', 'health: over', ''] })));
  return held;
}
const value = (state: string) => ({ state, source: 'bfd', why: '', atMs: 0 });

describe('GatewayHealth', () => {
  it('is each gateway’s own; unknown until it was told, up without a health profile', () => {
    const held = health();
    expect(held.take('health.edge1.fw1._', value('up'))).toBe('edge1');
    expect(held.take('health.edge1.fw1._', value('up'))).toBeNull();
    expect(held.take('health.edge2.fw1._', value('down'))).toBe('edge2');
    expect([held.stateOf('edge1', 'fw1'), held.stateOf('edge2', 'fw1')]).toEqual(['up', 'down']);
    expect(held.stateOf('edge1', 'fw2')).toBe('unknown');
    expect(held.stateOf('edge1', 'fw3')).toBe('up');
  });

  it('leaves what was under stale and under AdminDown with keep, and fails over where that is asked for', () => {
    const held = health();
    for (const [node, before] of [
      ['fw1', 'up'],
      ['fw2', 'up'],
    ])
      held.take(`health.edge1.${node}._`, value(before ?? ''));
    held.take('health.edge1.fw1._', value('stale'));
    expect(held.stateOf('edge1', 'fw1')).toBe('up');
    held.take('health.edge1.fw1._', value('down'));
    held.take('health.edge1.fw1._', value('stale'));
    expect(held.stateOf('edge1', 'fw1')).toBe('down');
    held.take('health.edge1.fw1._', value('up'));
    held.take('health.edge1.fw1._', value('admin-down'));
    expect(held.stateOf('edge1', 'fw1')).toBe('up');
    held.take('health.edge1.fw2._', value('admin-down'));
    expect(held.stateOf('edge1', 'fw2')).toBe('down');
  });

  it('counts a node as up where the first word is stale: what was before is not known here', () => {
    const held = health();
    held.take('health.edge1.fw1._', value('stale'));
    expect(held.stateOf('edge1', 'fw1')).toBe('up');
  });

  it('is as bad as the worst VRF of a node, forgets deleted keys, passes over what is no health', () => {
    const held = health();
    held.take('health.edge1.fw1.red', value('up'));
    held.take('health.edge1.fw1.blue', value('down'));
    expect(held.stateOf('edge1', 'fw1')).toBe('down');
    expect(held.take('health.edge1.fw1.blue', undefined)).toBe('edge1');
    expect(held.stateOf('edge1', 'fw1')).toBe('up');
    expect(held.take('health.edge1.fw1', value('down'))).toBeNull();
    expect(held.take('score.fw1', value('down'))).toBeNull();
    expect(held.take('health.edge2.fw1._', { state: 'constructor' })).toBeNull();
  });
});
