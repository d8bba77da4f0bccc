// SPDX-License-Identifier: Apache-2.0
/** Small intent documents for this service's tests. */

/** A document with one gateway and nodes fw1, fw2 … of service firewall; `nodeLines` are added to each node. */
export function exampleIntent(options: {
  nodeLines: string;
  nodes?: number;
  formula?: string;
  /** More keys of the scoring policy. */
  scoring?: string;
  /** Gateways edge1, edge2 …; default 1. */
  gateways?: number;
}): string {
  const { nodeLines, nodes = 1, formula, scoring = '', gateways = 1 } = options;
  const rows = Array.from({ length: nodes }, (_, i) => {
    const n = i + 1;
    const attach = `attach: { kind: tunnel, protocol: vxlan, remote: 192.0.2.${10 + n}, vni: ${4000 + n}, gateways: { edge1: { local: 169.254.${n}.1/30, peer: 169.254.${n}.2 } } }`;
    return `  - { name: fw${n}, service: firewall, ${attach}, ${nodeLines} }`;
  });
  return `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }]
gateways:
${Array.from({ length: gateways }, (_, i) => gatewayRow(i + 1)).join('\n')}
services: [{ name: firewall }]
nodes:
${rows.join('\n')}
${formula === undefined ? '' : `scoring: { default: { formula: ${JSON.stringify(formula)}${scoring === '' ? '' : `, ${scoring}`} } }`}
`;
}

function gatewayRow(n: number): string {
  return `  - name: edge${n}
    underlay: { device: eth0, address: 192.0.2.${n} }
    ports: [{ name: inside, kind: internal, device: eth1, vrf: red, classify: true }]`;
}
