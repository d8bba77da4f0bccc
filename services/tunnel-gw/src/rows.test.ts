// SPDX-License-Identifier: Apache-2.0
import { abi, INJECT_DEVICES } from '@detour/contracts';
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import type { Row } from './bank.js';
import { gatewayModel } from './desired.js';
import type { LinkState } from './devices.js';
import type { GatewayModel, PortModel } from './model.js';
import { addressBytes } from './row-bytes.js';
import { baseRows, type RowInputs } from './rows.js';
import { EXAMPLE_PORTS, exampleText } from './testdata.js';

const BRANCH =
  '{ name: branch, kind: vti, vrf: red, classify: true, addresses: [169.254.7.1/30], tunnel: { protocol: vxlan, remote: 203.0.113.7, vni: 77 } }';
const model: GatewayModel = gatewayModel(
  revisionOf(exampleText({ nodes: ['fw1'], ports: [...EXAMPLE_PORTS, BRANCH] })),
  'edge1',
);
const portNamed = (name: string): PortModel =>
  model.ports.find((port) => port.name === name) ?? expect.fail(name);
const inside = portNamed('inside');
const branch = portNamed('branch');
const fw1 = model.nodes[0] ?? expect.fail('fw1');

const link = (ifindex: number, addresses: string[] = []): LinkState => ({
  ifindex,
  mac: `02:00:00:00:00:0${ifindex % 10}`,
  mtu: 1500,
  ours: true,
  noArp: false,
  addresses,
});

function inputs(
  change: {
    links?: Record<string, LinkState | undefined>;
    model?: GatewayModel;
    lookupByRules?: boolean;
  } = {},
): RowInputs {
  const links = {
    eth0: link(2, ['192.0.2.1/24', 'fe80::1/64']),
    eth1: link(3, ['10.1.0.1/24']),
    eth2: link(4, ['198.51.100.1/24', '2001:db8:2::1/64']),
    'vti-fw1': link(5, ['169.254.1.1/30']),
    dtn1: link(6),
    'vti-branch': link(7, ['169.254.7.1/30']),
    [branch.tunnel?.inner ?? '']: link(8),
    [INJECT_DEVICES[1]]: link(9),
    ...change.links,
  };
  const there = Object.entries(links).flatMap(([name, row]) =>
    row === undefined ? [] : [[name, row] as const],
  );
  return {
    model: change.model ?? model,
    links: new Map(there),
    injectInner: INJECT_DEVICES[1],
    lookupByRules: change.lookupByRules ?? false,
    wayTo: () => ({
      ifindex: 2,
      sourceMac: '02:00:00:00:00:02',
      nextHopMac: '02:00:00:00:00:0b',
      linkMtu: 1600,
      innerSourceMac: '02:00:00:00:00:05',
      innerPeerMac: null,
    }),
    neighbour: () => null,
  };
}

const rowsOf = (rows: readonly Row[], table: string) => rows.filter((row) => row.table === table);
const portAt = (rows: readonly Row[], ifindex: number) => {
  const row = rows.find((one) => one.table === 'ports' && abi.portKey.decode(one.key(0)).ifindex === ifindex);
  return row === undefined ? undefined : abi.port.decode(row.value);
};

describe('baseRows', () => {
  const rows = baseRows(inputs());

  it('has a row for each device where the program has something to do', () => {
    const K = abi.PortKind;
    expect([2, 3, 4, 5, 6, 7, 8, 9].map((ifindex) => portAt(rows, ifindex)?.kind)).toEqual([
      K.PORT_UNDERLAY,
      K.PORT_INTERNAL,
      K.PORT_UPLINK,
      undefined, // the operator's side of a VTI
      K.PORT_VTI_INNER,
      undefined,
      K.PORT_VTI_INNER,
      K.PORT_INJECT,
    ]);
    expect(portAt(rows, 3)).toMatchObject({
      number: inside.number,
      table: 100,
      flags: abi.PortFlag.PORT_CLASSIFY | abi.PortFlag.PORT_INSIDE,
    });
    expect([...(portAt(rows, 3)?.mac ?? [])]).toEqual([2, 0, 0, 0, 0, 3]);
  });

  it('a VTI: what the kernel sends into it, what comes out of it, and the routes that name it', () => {
    const steer = fw1.number;
    const carry = 4096 + fw1.number;
    expect(portAt(rows, 6)?.hop).toBe(carry);
    expect(
      rowsOf(rows, 'egress').map((row) => [
        abi.egressKey.decode(row.key(0)).ifindex,
        new Uint32Array(row.value.slice().buffer)[0],
      ]),
    ).toEqual([
      [7, 8192 + branch.number],
      [5, carry],
    ]);
    const hop = (number: number) =>
      abi.hop.decode(rowsOf(rows, 'hops').find((row) => row.id === number)?.value ?? new Uint8Array());
    expect(hop(steer)).toMatchObject({ node: steer, mtu: 0 }); // the inner peer is not resolved
    expect(hop(carry)).toMatchObject({ node: 0, mtu: 1550 }); // what finds it gets through
  });

  it('where rules look VRFs up, rows say a table by the device that stands for it', () => {
    const byRules = baseRows(inputs({ lookupByRules: true, links: { dtr100: link(77) } }));
    const tables = byRules.flatMap((row) => {
      if (['ports', 'port_numbers'].includes(row.table)) {
        const { kind, table } = abi.port.decode(row.value);
        return kind === abi.PortKind.PORT_UNDERLAY || kind === abi.PortKind.PORT_INJECT ? [] : [table];
      }
      return ['tunnels', 'node_tunnels'].includes(row.table) ? [abi.tunnel.decode(row.value).table] : [];
    });
    expect(new Set(tables)).toEqual(new Set([77]));
    expect(tables.length).toBeGreaterThan(6);
    expect(() => baseRows(inputs({ lookupByRules: true }))).toThrow(/dtr100 of routing table 100/);
  });

  it('tunnels are known by both ends and the VNI; a node that comes back by its number', () => {
    const tunnels = rowsOf(rows, 'tunnels').map(
      (row) => [abi.tunnelKey.decode(row.key(1)), abi.tunnel.decode(row.value)] as const,
    );
    const [, node] = tunnels;
    expect(node?.[0]).toMatchObject({ vni: 4001, proto: abi.TunnelProto.TUNNEL_VXLAN, bank: 1 });
    expect(node?.[0].src).toEqual(addressBytes('192.0.2.11'));
    expect(node?.[0].dst).toEqual(addressBytes('192.0.2.1'));
    expect(node?.[1]).toMatchObject({
      kind: abi.TunnelKind.TUNNEL_TO_NODE,
      node: fw1.number,
      strictReturn: 1,
      deliverIfindex: 6,
    });
    expect(tunnels[0]?.[1]).toMatchObject({
      kind: abi.TunnelKind.TUNNEL_TO_VTI,
      port: branch.number,
      flags: 1,
      deliverIfindex: 8,
    });
    expect(rowsOf(rows, 'node_tunnels')[0]?.value).toEqual(rowsOf(rows, 'tunnels')[1]?.value);
  });

  it("own addresses are those of a VRF's ports and VTIs; VRF 0 is the underlay", () => {
    const own = rowsOf(rows, 'own').map((row) => String(row.id));
    const vrf = inside.vrf;
    expect(own.sort()).toEqual(
      [
        '0/192.0.2.1',
        '0/fe80::1',
        `${vrf}/10.1.0.1`,
        `${vrf}/198.51.100.1`,
        `${vrf}/2001:db8:2::1`,
        `${vrf}/169.254.1.1`,
        `${vrf}/169.254.7.1`,
      ].sort(),
    );
  });

  it('equal ids are equal keys, and different ids different ones, in each bank', () => {
    const moved = { ...model, underlay: { ...model.underlay, address: '192.0.2.99' } };
    const all = [...rows, ...baseRows(inputs({ model: moved }))];
    for (const bank of [0, 1]) {
      const keys = new Map<string, string>();
      for (const row of all) {
        const key = `${row.table} ${row.key(bank).join()}`;
        const id = `${row.table} ${row.id}`;
        expect(keys.get(id) ?? key).toBe(key); // a tunnel to another underlay address is another row
        keys.set(id, key);
      }
      expect(new Set(keys.values()).size).toBe(keys.size);
    }
  });

  it('banks do not overlap, whatever the table', () => {
    const zero = new Set(rows.map((row) => `${row.table} ${row.key(0).join()}`));
    for (const row of rows) expect(zero.has(`${row.table} ${row.key(1).join()}`)).toBe(false);
  });

  it('the bank stands in hash keys where datapath.ts looks for it', () => {
    expect([
      abi.portKey.offsets.bank,
      abi.tunnelKey.offsets.bank,
      abi.ownKey.offsets.bank,
      abi.egressKey.offsets.bank,
    ]).toEqual([6, 37, 18, 4]);
    for (const row of rows) {
      const [a, b] = [row.key(0), row.key(1)];
      const differ = [...a].flatMap((byte, at) => (byte === b[at] ? [] : [at]));
      const at = { ports: 6, tunnels: 37, own: 18, egress: 4 }[row.table];
      if (at !== undefined) expect(differ).toEqual([at]);
    }
  });

  it('the same inputs give the same bytes', () => {
    const bytes = (all: readonly Row[]) =>
      all.map((row) => [row.table, row.id, row.key(1).join(), row.value.join()]);
    expect(bytes(baseRows(inputs()))).toEqual(bytes(rows));
  });

  it('names a device that is missing; or leaves out what needs it, and nothing else', () => {
    const without = inputs({ links: { eth2: undefined, 'vti-fw1': undefined } });
    expect(() => baseRows(without)).toThrow(
      /device eth2 of port outside does not exist on this machine: create it, or correct the intent/,
    );
    const missing: string[] = [];
    const rest = baseRows(without, (fault) => missing.push(fault.detail));
    expect(missing.map((text) => text.split(' does')[0])).toEqual([
      'device eth2 of port outside',
      'device vti-fw1 of node fw1',
    ]);
    const left = new Set(rest.map((row) => `${row.table} ${row.id}`));
    const gone = rows.filter((row) => !left.has(`${row.table} ${row.id}`)).map((row) => row.table);
    expect(new Set(gone)).toEqual(
      new Set(['ports', 'port_numbers', 'egress', 'tunnels', 'node_tunnels', 'hops', 'own']),
    );
    expect(portAt(rest, 3)).toEqual(portAt(rows, 3));
  });
});
