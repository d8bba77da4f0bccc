// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { routerSessions } from './router-sessions.js';

const timing = { routerEveryMs: 100, routerMultiplier: 5 };

describe('routerSessions', () => {
  it('makes a session of one hop with each router, which is no node', () => {
    const [first, second, ...more] = routerSessions({
      routers: ['eth1/10.0.10.1/10.0.10.2', 'eth2/FD00:0::1/fd00::2'],
      ...timing,
    });
    expect(first).toEqual({
      ...{ id: 'router/eth1/10.0.10.2', node: '', vrf: '', device: 'eth1', end: null },
      ...{ local: '10.0.10.1', peer: '10.0.10.2', hears: '10.0.10.2', multihop: null, echo: null },
      timers: { desiredMinTxUs: 100_000, requiredMinRxUs: 100_000, detectMult: 5 },
    });
    expect(second).toMatchObject({ id: 'router/eth2/fd00::2', local: 'fd00::1' });
    expect(more).toEqual([]);
  });

  it.each([
    ['eth1/10.0.10.1/10.0.10.300', /10\.0\.10\.300 in eth1.* is no IP address: write device/],
    ['eth1/10.0.10.1/fd00::2', /addresses of two families/],
  ])('refuses %s by name', (entry, why) => {
    expect(() => routerSessions({ routers: [entry], ...timing })).toThrow(why);
  });
});
