// SPDX-License-Identifier: Apache-2.0
/** The intent of the edge's act: red is inspected by a chain of two services, blue by an appliance. */
import type { IntentDocument } from '@detour/intent';
import { firewallAddresses } from '../../firewall-spec.js';
import { standardAddresses, standardTable } from '../../standard-lab.js';
import { APPLIANCE, BLUE_TABLE, IDS, PAIR } from './places.js';

export function edgeIntent(): IntentDocument {
  const fw1 = firewallAddresses(1);
  const bfd = { minTxMs: 50, minRxMs: 50, multiplier: 3 } as const;
  const web = { source: ['office'], protocol: 'tcp' as const, destinationPorts: [80, '8000-8099'] };
  return {
    apiVersion: 'detour/v1',
    vrfs: [
      { name: 'red', table: standardTable },
      { name: 'blue', table: BLUE_TABLE },
    ],
    groups: [{ name: 'office', addresses: ['10.1.0.0/16'] }],
    gateways: [
      {
        name: 'edge1',
        underlay: { device: 'eth0', address: standardAddresses.edgeUnderlay },
        ports: [
          { name: 'inside-red', kind: 'internal', device: 'eth1', vrf: 'red', classify: true },
          { name: 'outside-red', kind: 'uplink', device: 'eth2', vrf: 'red', classify: true },
          { name: 'inside-blue', kind: 'internal', device: 'eth3', vrf: 'blue', classify: true },
          { name: 'outside-blue', kind: 'uplink', device: 'eth4', vrf: 'blue', classify: true },
          { name: 'ids-a', kind: 'service', device: PAIR.a, vrf: 'red' },
          { name: 'ids-b', kind: 'service', device: PAIR.b, vrf: 'red' },
        ],
      },
    ],
    healthProfiles: [
      { name: 'tunnel', bfd: { ...bfd, echo: { everyMs: 50, multiplier: 3 } } },
      { name: 'wire', bfd },
      {
        name: 'appliance',
        bfd: { echo: { everyMs: 100, multiplier: 4 } },
        tcp: { port: APPLIANCE.healthPort, everyMs: 200, multiplier: 3 },
      },
    ],
    services: [{ name: 'firewall' }, { name: 'ids' }, { name: 'appliance' }],
    nodes: [
      {
        name: fw1.name,
        service: 'firewall',
        health: 'tunnel',
        attach: {
          kind: 'tunnel',
          protocol: 'vxlan',
          remote: fw1.underlay,
          vni: fw1.vni,
          vrf: 'red',
          gateways: { edge1: { local: `${fw1.gatewayInner}/30`, peer: fw1.inner } },
        },
      },
      {
        name: IDS,
        service: 'ids',
        health: 'wire',
        attach: {
          kind: 'l2pair',
          gateway: 'edge1',
          a: { device: PAIR.a },
          b: { device: PAIR.b },
          vrfs: {
            red: {
              a: { address: '10.10.10.1/30', nextHop: '10.10.10.2' },
              b: { address: '10.10.20.1/30', nextHop: '10.10.20.2' },
            },
          },
        },
      },
      {
        name: APPLIANCE.ns,
        service: 'appliance',
        health: 'appliance',
        attach: { kind: 'gwlb', remote: APPLIANCE.address, vrf: 'blue' },
      },
    ],
    chains: [
      { name: 'inspect', hops: ['firewall', 'ids'] },
      { name: 'scrub', hops: ['appliance'] },
    ],
    rules: [
      { name: 'red-web', priority: 100, match: { vrf: 'red', ...web }, action: { chain: 'inspect' } },
      { name: 'blue-web', priority: 100, match: { vrf: 'blue', ...web }, action: { chain: 'scrub' } },
    ],
  };
}
