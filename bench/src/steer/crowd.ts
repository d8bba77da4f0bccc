// SPDX-License-Identifier: Apache-2.0
// Many rows in the gateway's tables: a thousand pairs and two hundred VTIs that no packet needs, and as many pairs in one VRF and in a hundred which all
// have packets. Pairs are VLANs on the links of one bump in the wire; VRFs are told apart by the VLAN by which packets enter.
import type { BpfObject } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { ipToKeyBytes, macToBytes } from '@detour/wire';
import { type PutRow, putArmedNode } from './armed-nodes.js';
import { type Devices, publishPath, tunnelFields, u32 } from './edge-tables.js';
import type { RecordedFlows } from './flow-records.js';
import { GATEWAY_MAC, TABLE, UNDERLAY } from './lanes.js';
import { FIRST_HOP_NODE } from './stations.js';

/** Points of the curve over VRFs and rows in use; the first is what the others are compared with. */
export const VRF_POINTS = [
  { name: '1 VRF, 1 row', vrfs: 1, rows: 1 },
  { name: '1 VRF, 1k rows', vrfs: 1, rows: 1_000 },
  { name: '100 VRF, 100 rows', vrfs: 100, rows: 100 },
  { name: '100 VRF, 1k rows', vrfs: 100, rows: 1_000 },
] as const;
export type VrfPoint = (typeof VRF_POINTS)[number];

/** What is different between one VRF and a hundred: nodes and paths, ports, VRFs, VLANs by which packets enter. */
interface Family {
  readonly firstNode: number;
  readonly firstPort: number;
  readonly firstVrf: number;
  readonly firstVlan: number;
}
const FAMILIES: Readonly<Record<VrfPoint['vrfs'], Family>> = {
  1: { firstNode: 2_000, firstPort: 100, firstVrf: 300, firstVlan: 500 },
  100: { firstNode: 3_000, firstPort: 101, firstVrf: 301, firstVlan: 1 },
};
const ROWS = 1_000;
export const TAGGED_DEVICE = 'in1';

/** Flows of a point, one row after the other; row r is of VRF r modulo their number. */
export function vrfFlows(point: VrfPoint): RecordedFlows {
  const { firstNode, firstPort, firstVrf } = FAMILIES[point.vrfs];
  return {
    base: 0x0a05_0001 + (VRF_POINTS.indexOf(point) << 12),
    number: firstNode,
    placeOf: (index) => {
      const vrf = index % point.vrfs;
      return { path: firstNode + (index % point.rows), vrf: firstVrf + vrf, port: firstPort + vrf };
    },
  };
}

/** The tags of its packets. */
export function vrfVlans({ vrfs }: VrfPoint): { readonly first: number; readonly count: number } {
  return { first: FAMILIES[vrfs].firstVlan, count: vrfs };
}

/** Rows of all points: ports on VLANs, nodes on VLANs of one pair of links, a path through each. */
export function publishVrfs(edge: BpfObject, devices: Devices): void {
  const put: PutRow = (map, key, value) => edge.map(map).update(key, value);
  const { PortKind: kind, PortFlag: flag } = abi;
  const port = (device: string, vlan: number, fields: Partial<abi.Port>): void =>
    put('ports', portKey(devices.get(device) ?? 0, vlan), abi.port.encode({ ...NO_PORT, ...fields }));
  for (const device of [TAGGED_DEVICE, 'vlans-a', 'vlans-b'])
    port(device, 0, { kind: kind.PORT_NONE, flags: flag.PORT_TAGS });
  for (const vrfs of [1, 100] as const) {
    const { firstNode, firstPort, firstVrf, firstVlan } = FAMILIES[vrfs];
    for (let i = 0; i < vrfs; i++)
      port(TAGGED_DEVICE, firstVlan + i, {
        ...{ number: firstPort + i, vrf: firstVrf + i, kind: kind.PORT_INTERNAL, flags: flag.PORT_CLASSIFY },
        mac: macToBytes(GATEWAY_MAC),
      });
    for (let row = 0; row < ROWS; row++) {
      const number = firstNode + row;
      const vlan = number - FAMILIES[1].firstNode + 1;
      putArmedNode(put, devices, { number, vrf: firstVrf + (row % vrfs), kind: 'vlans', vlan });
      publishPath(edge, number, [number]);
    }
  }
}

const NO_PORT: abi.Port = {
  ...{ number: 0, vrf: 0, table: TABLE, kind: 0, flags: 0, hop: 0, vtiIfindex: 0, node: 0 },
  mac: new Uint8Array(6),
};

function portKey(ifindex: number, vlan: number): Uint8Array {
  return abi.portKey.encode({ ifindex, vlan, inner: 0, bank: 0 });
}

const PAIRS = 1_000;
const VTIS = 200;
/** Above every ifindex of the lab. */
const FAR_IFINDEX = 1_000_000;

/** Puts the rows there that 1,000 pairs on VLANs and 200 VTIs have, all of them in one VRF or each tenth in another; returns what takes them away. */
export function crowdTables(edge: BpfObject, vrfs: number): () => void {
  const put: [map: string, key: Uint8Array][] = [];
  const row = (map: string, key: Uint8Array, value: Uint8Array): void => {
    edge.map(map).update(key, value);
    put.push([map, key]);
  };
  const { PortKind: kind, DetourLimit: limit } = abi;
  const port = (ifindex: number, vlan: number, fields: Partial<abi.Port>): void =>
    row('ports', portKey(ifindex, vlan), abi.port.encode({ ...NO_PORT, vrf: 1, ...fields }));
  for (let i = 0; i < PAIRS; i++) {
    const node = 1_000 + i;
    const vrf = 2 + (i % vrfs);
    const address = (which: number): Uint8Array => ipToKeyBytes(`172.${16 + which}.${i >> 8}.${i & 255}`);
    row('node_tunnels', u32(node), abi.tunnel.encode({ ...tunnelFields(node), vrf }));
    for (const arm of [0, 1]) {
      port(FAR_IFINDEX + arm, 1 + i, { kind: kind.PORT_SERVICE, vrf, node });
      port(FAR_IFINDEX + 2 + 2 * i + arm, 0, { kind: kind.PORT_LINK_INNER, vrf, hop: node });
      row('own', abi.ownKey.encode({ addr: address(arm), vrf, bank: 0 }), u32(1));
      const hop = edge.map('hops').lookup(u32(FIRST_HOP_NODE));
      if (hop !== undefined) row('hops', u32(node + arm * limit.DT_SECOND_ARM), hop);
    }
  }
  for (let i = 0; i < VTIS; i++) {
    const [src, dst] = [ipToKeyBytes(`198.51.100.${1 + (i % 250)}`), ipToKeyBytes(UNDERLAY)];
    const key = { src, dst, vni: 9_000 + i, proto: abi.TunnelProto.TUNNEL_VXLAN, bank: 0 };
    row(
      'tunnels',
      abi.tunnelKey.encode(key),
      abi.tunnel.encode({ ...tunnelFields(0), kind: abi.TunnelKind.TUNNEL_TO_VTI, vrf: 2 + (i % vrfs) }),
    );
    port(FAR_IFINDEX + 10_000 + i, 0, { kind: kind.PORT_VTI_INNER, vrf: 2 + (i % vrfs) });
  }
  return () => {
    for (const [name, key] of put) {
      const map = edge.map(name);
      if (name === 'hops' || name === 'node_tunnels') map.update(key, new Uint8Array(map.valueSize));
      else map.delete(key);
    }
  };
}
