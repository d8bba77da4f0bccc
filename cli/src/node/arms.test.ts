// SPDX-License-Identifier: Apache-2.0
// Why a router's arm is not ready, named before anything is asked of the kernel; that it is, and how it is lost, is seen in tests/e2e/src/node-arms.test.ts.
import { describe, expect, it } from 'vitest';
import { findArms } from './arms.js';
import type { LinkState } from './devices.js';

const ARMS = {
  in: { device: 'dt-no-arm0', nextHop: '10.20.1.2' },
  out: { device: 'dt-no-arm1', nextHop: '10.20.2.2' },
};
const link = (up: boolean, ...prefixes: string[]): LinkState => ({
  ifindex: 7,
  mtu: 1500,
  up,
  alias: '',
  mac: '02:00:00:00:00:01',
  addresses: prefixes.map((text) => text.split('/')[0] ?? ''),
  prefixes,
});

describe('a router’s arm that is not ready', () => {
  it.each([
    [[], 'device dt-no-arm0 does not exist'],
    [[['dt-no-arm0', link(false)]], 'device dt-no-arm0 is down: ip link set dt-no-arm0 up'],
    [
      [['dt-no-arm0', link(true, '10.20.2.1/24', 'fd00::1/64')]],
      'device dt-no-arm0 has no address beside next hop 10.20.1.2: it has 10.20.2.1/24, fd00::1/64',
    ],
    [[['dt-no-arm0', link(true)]], 'device dt-no-arm0 has no address beside next hop 10.20.1.2: it has none'],
    [
      [['dt-no-arm0', link(true, '10.20.1.1/24')]],
      "next hop 10.20.1.2 does not answer on dt-no-arm0: look at the router's arm",
    ],
  ] as const)('%#: %s', async (links, why) => {
    expect(await findArms(ARMS, new Map(links))).toEqual({ why });
  });
});
