// SPDX-License-Identifier: Apache-2.0
/** Small intent documents for this service's tests. */

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
