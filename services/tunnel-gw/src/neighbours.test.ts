// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { parseMonitorLine } from './neighbours.js';

describe('parseMonitorLine', () => {
  it.each([
    [
      '10.9.0.2 dev eth1 lladdr 02:00:00:00:00:01 REACHABLE',
      { kind: 'neighbour', device: 'eth1', address: '10.9.0.2', mac: '02:00:00:00:00:01' },
    ],
    [
      '10.9.0.2 dev eth1 lladdr 02:00:00:00:00:01 managed STALE',
      { kind: 'neighbour', device: 'eth1', address: '10.9.0.2', mac: '02:00:00:00:00:01' },
    ],
    [
      'fe80::1 dev eth1 lladdr 02:00:00:00:00:01 router STALE',
      { kind: 'neighbour', device: 'eth1', address: 'fe80::1', mac: '02:00:00:00:00:01' },
    ],
    [
      '10.9.0.2 dev eth1 managed INCOMPLETE ',
      { kind: 'neighbour', device: 'eth1', address: '10.9.0.2', mac: undefined },
    ],
    ['10.9.0.2 dev eth1 FAILED', { kind: 'neighbour', device: 'eth1', address: '10.9.0.2', mac: null }],
    [
      'Deleted 10.9.0.2 dev eth1 lladdr 02:00:00:00:00:01 STALE',
      { kind: 'neighbour', device: 'eth1', address: '10.9.0.2', mac: null },
    ],
  ])('%s', (line, want) => {
    expect(parseMonitorLine(line)).toEqual(want);
  });

  it.each([
    '10.10.0.0/24 via 10.9.0.2 dev eth1 table 100 ',
    'Deleted 10.10.0.0/24 dev eth1 table 100',
    '3: va    inet6 fe80::1/64 scope link',
  ])('routing: %s', (line) => {
    expect(parseMonitorLine(line)?.kind).toBe('routing');
  });

  it('an empty line is nothing', () => {
    expect(parseMonitorLine('  ')).toBeNull();
  });
});
