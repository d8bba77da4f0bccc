// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { namespaceScript, topologyBatch } from './script.js';
import type { LabSpec } from './spec.js';
import { standardLab } from './standard-lab.js';

describe('topologyBatch', () => {
  it('makes namespaces before links, and gives no two ends the same index', () => {
    const batch = topologyBatch(standardLab({ firewalls: 8 }), (ns) => `dt-x-${ns}`).split('\n');
    expect(batch[0]).toBe('netns add dt-x-client');
    const firstLink = batch.findIndex((line) => line.startsWith('link'));
    expect(batch.slice(firstLink).some((line) => line.startsWith('netns'))).toBe(false);
    const indexes = [...batch.join('\n').matchAll(/ index (\d+) /g)].map(([, index]) => index);
    expect(indexes.length).toBe(2 * (4 + 2 * 8));
    expect(new Set(indexes).size).toBe(indexes.length);
  });
});

describe('namespaceScript', () => {
  it('writes what the data says, in an order that works', () => {
    const spec: LabSpec = {
      namespaces: {
        a: {
          bridges: [{ name: 'br0' }],
          routes: [{ to: '10.0.0.0/8', via: '192.0.2.2', dev: 'e0', src: '192.0.2.1', table: 7 }],
          rules: [
            { iif: 'e0', table: 7, priority: 10 },
            { fwmark: 3, table: 7, priority: 11, family: 6 },
          ],
          neighbours: [{ address: '192.0.2.2', mac: '02:00:00:00:00:02', dev: 'e0' }],
          sysctls: { 'net.ipv4.ip_forward': 1 },
          nft: 'table inet t { }',
        },
        b: {},
      },
      links: [
        {
          a: {
            ns: 'a',
            device: 'e0',
            addresses: ['192.0.2.1/24', '2001:db8::1/64'],
            txOffload: 'off',
            xdpPass: true,
          },
          b: { ns: 'b', device: 'e0' },
        },
      ],
    };
    const script = namespaceScript('a', spec.namespaces.a ?? {}, spec.links, '/x.o').split('\n');
    const inOrder = [
      'link add name br0 type bridge forward_delay 0 mcast_snooping 0',
      'address add 192.0.2.1/24 dev e0',
      'address add 2001:db8::1/64 dev e0 nodad',
      'link set dev e0 xdpdrv obj /x.o sec xdp',
      'link set dev e0 up',
      'neighbour replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev e0 nud permanent',
      'route add 10.0.0.0/8 via 192.0.2.2 dev e0 src 192.0.2.1 table 7',
      'rule add iif e0 lookup 7 priority 10',
      'rule add fwmark 3 lookup 7 priority 11',
      'ethtool -K e0 tx off >/dev/null',
      "echo '1' >/proc/sys/net/ipv4/ip_forward",
      'table inet t { }',
    ];
    const positions = inOrder.map((line) => script.indexOf(line));
    expect(positions).toEqual([...positions].sort((x, y) => x - y));
    expect(Math.min(...positions)).toBeGreaterThan(0);
    expect(namespaceScript('b', {}, spec.links, '/x.o')).not.toContain('192.0.2.1');
  });
});

describe('standardLab', () => {
  it('refuses numbers out of range', () => {
    expect(() => standardLab({ firewalls: 9 })).toThrow(/firewalls: 9: use 1 to 8/);
    expect(() => standardLab({ clientAddresses: 0 })).toThrow(/clientAddresses: 0: use 1 to 200/);
  });
});
