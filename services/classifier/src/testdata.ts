// SPDX-License-Identifier: Apache-2.0
/** Revisions of small intents for this service's tests. */
import { newSelectionKey, numberIntent, type ParseMode, parseIntent, type Revision } from '@detour/intent';

/** One VRF, two gateways, one firewall, one chain `inspect`; `rules` are lines of the document's rules section. */
export function exampleText(rules: readonly string[], more = ''): string {
  return `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }]
groups:
  - { name: office, addresses: [10.1.0.0/16, "2001:db8:1::/48"] }
  - { name: web, guestLabels: { app: web } }
  - { name: nobody, guestLabels: { app: none } }
gateways:
  - name: edge1
    underlay: { device: eth0, address: 192.0.2.1 }
    ports:
      - { name: inside, kind: internal, device: eth1, vrf: red, classify: true }
      - { name: outside, kind: uplink, device: eth2, vrf: red, classify: true }
  - name: edge2
    underlay: { device: eth0, address: 192.0.2.2 }
    ports: [{ name: inside, kind: internal, device: eth1, vrf: red, classify: true }]
hosts:
  - name: h1
    underlay: { device: eth0, address: 192.0.2.21 }
    guests: [{ name: a, device: veth-a, vrf: red, labels: { app: web }, addresses: [10.2.0.5] }]
services: [{ name: firewall }]
nodes:
  - { name: fw1, service: firewall, attach: { kind: tunnel, protocol: vxlan, remote: 192.0.2.11, vni: 4001,
      gateways: { edge1: { local: 169.254.1.1/30, peer: 169.254.1.2 }, edge2: { local: 169.254.1.5/30, peer: 169.254.1.6 } } } }
chains: [{ name: inspect, hops: [firewall] }]
scoring: { default: { levels: { gold: 60 } } }
rules:
${rules.map((rule) => `  - ${rule}`).join('\n')}
${more}`;
}

/** The document as a revision. */
export function exampleRevision(
  text: string,
  options: { revision?: number; mode?: ParseMode } = {},
): Revision {
  const { revision = 1, mode = 'whole' } = options;
  const parsed = parseIntent(text, 'intent.yaml', mode);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems, null, 1));
  const numbered = numberIntent(parsed.intent, null, 0);
  if (!numbered.ok) throw new Error(JSON.stringify(numbered.problems));
  return {
    revision,
    intent: parsed.intent,
    numbers: numbered.numbers,
    selectionKey: newSelectionKey(),
    author: 'test',
    at: '2026-01-01T00:00:00.000Z',
    note: '',
  };
}
