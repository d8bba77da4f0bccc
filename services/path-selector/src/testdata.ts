// SPDX-License-Identifier: Apache-2.0
/** Small intent documents for this service's tests. */

export interface ExampleSpec {
  /** Members of each firewall's row beside name, service and attachment, one firewall an entry. */
  readonly firewalls: readonly string[];
  /** Members of the chain `inspect` beside its name and hops. */
  readonly chain?: string;
  /** QoS level of a second rule, for TCP; none where absent. */
  readonly level?: string;
  /** Zone of edge1; edge2 has none. */
  readonly zone?: string;
  /** Further lines of the document. */
  readonly more?: string;
}

/** One VRF, two gateways, some firewalls, one chain `inspect` through them. */
export function exampleText({ firewalls, chain = '', level, zone, more = '' }: ExampleSpec): string {
  const rows = firewalls.map((members, i) => {
    const n = i + 1;
    const inner = (end: number) => `{ local: 169.254.${n}.${end}/30, peer: 169.254.${n}.${end + 1} }`;
    const attach = `attach: { kind: tunnel, protocol: vxlan, remote: 192.0.2.${10 + n}, vni: ${4000 + n}, gateways: { edge1: ${inner(1)}, edge2: ${inner(5)} } }`;
    return `  - { name: fw${n}, service: firewall, ${attach}${members === '' ? '' : `, ${members}`} }`;
  });
  const gateway = (
    name: string,
    address: string,
  ) => `  - name: ${name}${name === 'edge1' && zone !== undefined ? `\n    zone: ${zone}` : ''}
    underlay: { device: eth0, address: ${address} }
    ports: [{ name: inside, kind: internal, device: eth1, vrf: red, classify: true }]`;
  return `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }]
gateways:
${gateway('edge1', '192.0.2.1')}
${gateway('edge2', '192.0.2.2')}
healthProfiles: [{ name: fast, bfd: { minTxMs: 50, minRxMs: 50, multiplier: 3 } }, { name: over, bfd: {}, adminDownAction: failover }]
services: [{ name: firewall }]
nodes:
${rows.join('\n')}
chains: [{ name: inspect, hops: [firewall]${chain === '' ? '' : `, ${chain}`} }]
rules:
  - { name: all, priority: 1, match: { vrf: red }, action: { chain: inspect } }
${level === undefined ? '' : `  - { name: ${level}, priority: 2, match: { vrf: red, protocol: tcp }, level: ${level}, action: { chain: inspect } }\n`}${more}`;
}
