// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { LinkState } from './devices.js';
import type { GatewayModel, PortModel } from './model.js';
import { DUMMY_IPV4, ownAddress } from './own-address.js';

const port = (number: number, vrf: number): PortModel => ({
  ...{ name: `p${number}`, number, kind: 'internal', device: `eth${number}`, vrf, table: 100 },
  ...{ classify: true, attachMode: 'auto', tunnel: null, vlan: null },
});
const model: GatewayModel = {
  ...{ gateway: 'edge1', revision: 1, hashKey: { lo: 1, hi: 2 }, vrfs: [], nodes: [], pathNodes: new Map() },
  alone: true,
  underlay: { device: 'eth0', address: '192.0.2.1', attachMode: 'auto' },
  ports: [port(1, 1), port(2, 1), port(3, 2)],
  ...{ chainNames: new Map(), ruleNames: new Map(), armed: [], servicePorts: [] },
};
const link = (addresses: string[]): LinkState => ({
  ifindex: 1,
  mac: '',
  mtu: 1500,
  ours: false,
  noArp: false,
  addresses,
});
const links = new Map([
  ['eth1', link(['fe80::1/64', '10.1.0.1/24', '10.1.1.1/24', '2001:db8:1::1/64'])],
  ['eth2', link(['198.51.100.1/24', '2001:db8:2::1/64'])],
  ['eth3', link(['fe80::3/64'])],
]);
const from = (vrf: number, entry: number, towards: string) =>
  ownAddress({ model, links }, { vrf, entry, towards });

describe('ownAddress', () => {
  it('is of the port where the packet came in, and of its sender’s network if there is one', () => {
    expect(from(1, 1, '10.1.0.9')).toEqual({ address: '10.1.0.1', port: 1 });
    expect(from(1, 1, '10.1.1.9')).toEqual({ address: '10.1.1.1', port: 1 });
    expect(from(1, 1, '172.16.0.9')).toEqual({ address: '10.1.0.1', port: 1 });
    expect(from(1, 2, '10.1.1.9')).toEqual({ address: '198.51.100.1', port: 2 });
    expect(from(1, 1, '2001:db8:9::9')).toEqual({ address: '2001:db8:1::1', port: 1 });
  });

  it('is any of the VRF for what a node returned, the nearest first', () => {
    expect(from(1, 0, '198.51.100.7')).toEqual({ address: '198.51.100.1', port: 2 });
    expect(from(1, 0, '2001:db8:2::7')).toEqual({ address: '2001:db8:2::1', port: 2 });
  });

  it('is the dummy address of RFC 7600 where there is none, and nothing for IPv6', () => {
    expect(from(2, 3, '10.1.0.9')).toEqual({ address: DUMMY_IPV4, port: 3 });
    expect(from(2, 3, '2001:db8:1::9')).toBeNull();
    expect(from(9, 1, '10.1.0.9')).toBeNull();
    expect(from(1, 1, 'nobody')).toBeNull();
  });
});
