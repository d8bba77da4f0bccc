// SPDX-License-Identifier: Apache-2.0
/** The intent of the lab of address pairs. */
import type { IntentDocument } from '@detour/intent';
import { edgeDevices, pairAddresses, pairPlace } from './pair-topology.js';

export interface PairIntentOptions {
  readonly bfd?: { readonly intervalMs: number; readonly multiplier: number };
  readonly onFailure?: 'drop' | 'bypass';
  readonly adminDownAction?: 'keep' | 'failover';
  /** VRFs whose traffic no rule steers. */
  readonly unruled?: readonly string[];
}

export const pairBfd = { intervalMs: 100, multiplier: 3 } as const;

/** The pair of every VRF: VRFD-1's addresses, except that a /30 around 10.10.20.1 stands for 20.20.20.1. */
export const pairOf = (vlan?: number) => ({
  ...(vlan === undefined ? {} : { vlan }),
  a: { address: '10.10.10.1/30', nextHop: '10.10.10.2' },
  b: { address: '20.20.20.1/30', nextHop: '20.20.20.2' },
});

/** For each VRF: ports, a service `svm-<vrf>` with one node of that name, a chain, and the rule 10.1.0.0/16, tcp/80 and udp/8007 → chain. */
export function pairIntent(vrfs: readonly string[], options: PairIntentOptions = {}): IntentDocument {
  const places = vrfs.map((vrf, index) => pairPlace(vrf, index));
  const { intervalMs, multiplier } = options.bfd ?? pairBfd;
  const { onFailure = 'drop', adminDownAction = 'keep' } = options;
  return {
    apiVersion: 'detour/v1',
    vrfs: places.map(({ vrf, table }) => ({ name: vrf, table })),
    groups: [{ name: 'office', addresses: ['10.1.0.0/16', '2001:db8:1::/48'] }],
    gateways: [
      {
        name: 'edge1',
        underlay: { device: 'eth0', address: pairAddresses.edgeUnderlay },
        ports: places.flatMap(({ vrf, index }) => {
          const { up, inside, la, lb } = edgeDevices(index);
          return [
            { name: `up-${vrf}`, kind: 'uplink' as const, device: up, vrf, classify: true },
            { name: `in-${vrf}`, kind: 'internal' as const, device: inside, vrf, classify: true },
            { name: `la-${vrf}`, kind: 'service' as const, device: la, vrf },
            { name: `lb-${vrf}`, kind: 'service' as const, device: lb, vrf },
          ];
        }),
      },
    ],
    healthProfiles: [
      { name: 'fast', bfd: { minTxMs: intervalMs, minRxMs: intervalMs, multiplier }, adminDownAction },
    ],
    services: vrfs.map((vrf) => ({ name: `svm-${vrf}` })),
    nodes: places.map(({ vrf, index }) => ({
      name: `svm-${vrf}`,
      service: `svm-${vrf}`,
      attach: {
        kind: 'l2pair' as const,
        gateway: 'edge1',
        a: { device: edgeDevices(index).la },
        b: { device: edgeDevices(index).lb },
        vrfs: { [vrf]: pairOf() },
      },
      health: 'fast',
    })),
    chains: vrfs.map((vrf) => ({ name: `inspect-${vrf}`, hops: [`svm-${vrf}`], onFailure })),
    rules: places
      .filter(({ vrf }) => options.unruled?.includes(vrf) !== true)
      .flatMap(({ vrf }) => [
        {
          name: `web-${vrf}`,
          priority: 100,
          match: { vrf, source: ['office'], protocol: 'tcp' as const, destinationPorts: [80] },
          action: { chain: `inspect-${vrf}` },
        },
        {
          name: `crowd-${vrf}`,
          priority: 90,
          match: { vrf, source: ['office'], protocol: 'udp' as const, destinationPorts: [8_007] },
          action: { chain: `inspect-${vrf}` },
        },
      ]),
  };
}
