// SPDX-License-Identifier: Apache-2.0
/** The intent that fits the standard lab, as a value: tests change it as they need, `JSON.stringify` makes a document of it. */
import type { IntentDocument } from '@detour/intent';
import { type BfdTiming, firewallAddresses } from './firewall-spec.js';
import { standardAddresses, standardTable } from './standard-lab.js';

export interface StandardIntentOptions {
  /** How many firewalls of the lab are nodes; default 2. */
  readonly firewalls?: number;
  readonly bfd?: BfdTiming;
  /** How often node exporters are read, ms; default 1,000. Stale after three times that. */
  readonly scrapeEveryMs?: number;
  /** Connections at which a firewall's score is 0; default 50,000. */
  readonly maxConnections?: number;
}

/**
 * One gateway, `edge1`, with ports `inside` and `outside` in VRF `red`; nodes `fw1` … of service `firewall`; chain
 * `inspect`; one rule, `web-out`: TCP to ports 80 and 8000-8099, and `udp-out`: UDP to 8000-8099, from the client's side.
 */
export function standardIntent(options: StandardIntentOptions = {}): IntentDocument {
  const intervalMs = options.bfd?.intervalMs ?? 50;
  const multiplier = options.bfd?.multiplier ?? 3;
  const everyMs = options.scrapeEveryMs ?? 1_000;
  const from = { vrf: 'red', source: ['office'] };
  return {
    apiVersion: 'detour/v1',
    vrfs: [{ name: 'red', table: standardTable }],
    groups: [{ name: 'office', addresses: ['10.1.0.0/16', '2001:db8:1::/48'] }],
    gateways: [
      {
        name: 'edge1',
        underlay: { device: 'eth0', address: standardAddresses.edgeUnderlay },
        ports: [
          { name: 'inside', kind: 'internal', device: 'eth1', vrf: 'red', classify: true },
          { name: 'outside', kind: 'uplink', device: 'eth2', vrf: 'red', classify: true },
        ],
      },
    ],
    healthProfiles: [
      {
        name: 'fast',
        bfd: {
          minTxMs: intervalMs,
          minRxMs: intervalMs,
          multiplier,
          echo: { everyMs: intervalMs, multiplier },
        },
      },
    ],
    services: [{ name: 'firewall' }],
    // Not the default formula: all exporters of a lab see the same machine's CPU and memory, and a busy one would take every node's score.
    // Shares are measured as soon as a node is there, so none starts slowly.
    scoring: { default: { formula: 'capacity * (1 - connections / maxConnections)', slowStart: '0s' } },
    nodes: Array.from({ length: options.firewalls ?? 2 }, (_, i) => {
      const at = firewallAddresses(i + 1);
      return {
        name: at.name,
        service: 'firewall',
        attach: {
          kind: 'tunnel' as const,
          protocol: 'vxlan' as const,
          remote: at.underlay,
          vni: at.vni,
          gateways: { edge1: { local: `${at.gatewayInner}/30`, peer: at.inner } },
        },
        health: 'fast',
        maxConnections: options.maxConnections ?? 50_000,
        attributes: {
          prometheus: {
            url: `http://${at.management}:9100/metrics`,
            every: `${everyMs}ms`,
            staleAfter: `${3 * everyMs}ms`,
          },
        },
      };
    }),
    chains: [{ name: 'inspect', hops: ['firewall'] }],
    rules: [
      {
        name: 'web-out',
        priority: 100,
        match: { ...from, protocol: 'tcp', destinationPorts: [80, '8000-8099'] },
        action: { chain: 'inspect' },
      },
      {
        name: 'udp-out',
        priority: 90,
        match: { ...from, protocol: 'udp', destinationPorts: ['8000-8099'] },
        action: { chain: 'inspect' },
      },
    ],
  };
}
