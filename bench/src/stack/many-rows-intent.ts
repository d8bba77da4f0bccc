// SPDX-License-Identifier: Apache-2.0
// The lab and the intent of `rows`: 50 VRFs, VTIs whose other ends are all behind one next hop, and pairs on the VLANs of two devices that a bridge joins.
import type { IntentDocument } from '@detour/intent';
import { type LabSpec, type LinkEnd, standardIntent, standardLab } from '@detour/lab';

export const VTIS = 200;
export const ROWS = 1_000;
const VRFS = 50;
const FIRST_TABLE = 1_000;
const BUMP = 'bump';

export function manyRowsLab(): LabSpec {
  const { namespaces, links } = standardLab({ firewalls: 1 });
  const { edge1 = {} } = namespaces;
  const end = (device: string): LinkEnd => ({
    ...{ ns: BUMP, device, bridge: 'br0', txOffload: 'off', vlanOffload: 'off', xdpPass: true },
  });
  return {
    namespaces: {
      ...namespaces,
      edge1: { ...edge1, routes: [...(edge1.routes ?? []), { to: '198.51.100.0/24', via: '192.0.2.11' }] },
      [BUMP]: {
        bridges: [{ name: 'br0' }],
        sysctls: { 'net.ipv6.conf.all.disable_ipv6': 1, 'net.ipv6.conf.default.disable_ipv6': 1 },
      },
    },
    links: [
      ...links,
      { a: { ns: 'edge1', device: 'la', mac: '02:00:00:0a:00:01', txOffload: 'off' }, b: end('a') },
      { a: { ns: 'edge1', device: 'lb', mac: '02:00:00:0b:00:01', txOffload: 'off' }, b: end('b') },
    ],
  };
}

export interface ManyRows {
  readonly vtis?: number;
  readonly rows?: number;
  /** The row that has other next hops than at first. */
  readonly changed?: number;
}

const vrfOf = (index: number): string => `vrf${index % VRFS}`;

/** Every VRF has one rule to one chain, with as many paths as it has rows. */
export function manyRowsIntent({ vtis = 0, rows = 0, changed }: ManyRows): IntentDocument {
  const base = standardIntent({ firewalls: 0 });
  const gateway = base.gateways?.[0];
  if (gateway === undefined) throw new RangeError('the standard intent has no gateway');
  return {
    ...base,
    vrfs: [
      ...(base.vrfs ?? []),
      ...Array.from({ length: VRFS }, (_, i) => ({ name: vrfOf(i), table: FIRST_TABLE + i })),
    ],
    gateways: [
      {
        ...gateway,
        ports: [
          ...(gateway.ports ?? []),
          ...Array.from({ length: vtis }, (_, i) => ({
            name: `vti${i}`,
            kind: 'vti' as const,
            vrf: vrfOf(i),
            classify: true,
            addresses: [`169.254.${100 + (i >> 6)}.${(i & 63) * 4 + 1}/30`],
            tunnel: { protocol: 'vxlan' as const, remote: `198.51.100.${1 + i}`, vni: 5_000 + i },
          })),
        ],
      },
    ],
    services: rows === 0 ? [] : [{ name: 'ids' }],
    nodes: Array.from({ length: rows }, (_, i) => {
      const row = i + 1;
      return {
        name: `n${row}`,
        service: 'ids',
        attach: {
          kind: 'l2pair' as const,
          gateway: 'edge1',
          a: { device: 'la' },
          b: { device: 'lb' },
          vrfs: { [vrfOf(i)]: pairOf(row, row === changed ? 120 : 100) },
        },
      };
    }),
    chains: rows === 0 ? [] : [{ name: 'inspect', hops: ['ids'] }],
    rules:
      rows === 0
        ? []
        : Array.from({ length: VRFS }, (_, i) => ({
            name: `web${i}`,
            priority: 100,
            match: { vrf: vrfOf(i), source: ['office'] },
            action: { chain: 'inspect' },
          })),
  };
}

function pairOf(row: number, block: number) {
  const at = (host: number): string => `10.${block + (row >> 8)}.${row & 255}.${host}`;
  return {
    vlan: row,
    a: { address: `${at(1)}/30`, nextHop: at(2) },
    b: { address: `${at(5)}/30`, nextHop: at(6) },
  };
}
