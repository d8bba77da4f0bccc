// SPDX-License-Identifier: Apache-2.0
import { abi, INJECT_DEVICES } from '@detour/contracts';
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import type { Row } from './bank.js';
import { gatewayModel } from './desired.js';
import type { LinkState } from './devices.js';
import { attachedDevices, linkModels, machineShape, trunkDevices, vtiDevices } from './gateway-devices.js';
import { baseRows } from './rows.js';

const text = (vrfs: string) => `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }, { name: blue, table: 200 }]
gateways:
  - name: edge1
    underlay: { device: eth0, address: 192.0.2.1 }
    ports:
      - { name: up, kind: uplink, device: eth1, vlan: 10, vrf: red, classify: true, addresses: [198.51.100.2/30] }
      - { name: in, kind: internal, device: eth2, vrf: red, classify: true }
      - { name: la, kind: service, device: eth3, vlan: 100, vrf: red }
services: [{ name: ids }]
nodes:
  - { name: svm, service: ids, attach: { kind: l2pair, gateway: edge1, a: { device: eth3 }, b: { device: eth4 }, vrfs: { ${vrfs} } } }
chains: [{ name: inspect, hops: [ids] }]
`;
const pair = (tags: string, net = '10.10.10') =>
  `{ ${tags} a: { address: ${net}.1/30, nextHop: ${net}.2 }, b: { address: 10.10.20.1/30, nextHop: 10.10.20.2 } }`;
const RED = `red: ${pair('vlan: 100,')}`;
const BOTH = `${RED}, blue: ${pair('vlan: 200, outerVlan: 300,')}`;
const modelOf = (vrfs: string) => gatewayModel(revisionOf(text(vrfs)), 'edge1');

const mac = (index: number) => `02:00:00:00:00:${index.toString(16).padStart(2, '0')}`;
function machine(vrfs: string, resolved = true) {
  const model = modelOf(vrfs);
  const names = ['eth0', 'eth1', 'eth2', 'eth3', 'eth4', INJECT_DEVICES[1]];
  names.push(...linkModels(model).flatMap(({ device, inner }) => [device, inner]));
  const links = new Map<string, LinkState>(
    names.map((name, i) => [
      name,
      { ifindex: i + 1, mac: mac(i + 1), mtu: 1500, ours: false, noArp: false, addresses: [] },
    ]),
  );
  const neighbour = (device: string) => (resolved ? mac(device.endsWith('a') ? 0xb : 0xa) : null);
  const wayTo = () => {
    throw new Error('there is no tunnel');
  };
  return {
    model,
    links,
    rows: baseRows({ model, links, injectInner: INJECT_DEVICES[1], lookupByRules: false, wayTo, neighbour }),
  };
}

const indexOf = (links: ReadonlyMap<string, LinkState>, device: string) => links.get(device)?.ifindex ?? 0;
function hop(rows: readonly Row[], number: number) {
  const row = rows.find(({ table, id }) => table === 'hops' && id === number);
  if (row === undefined) throw new Error(`no hop ${number}`);
  const value = abi.hop.decode(row.value);
  return { ...value, tags: abi.hopTags.decode(value.header) };
}

describe('rows of address pairs', () => {
  it('has a hop for each member, in its own tags, and a port where each returns packets', () => {
    const { model, links, rows } = machine(BOTH);
    expect(model.armed.map(({ label, vrfName }) => [label, vrfName])).toEqual([
      ['svm@blue', 'blue'],
      ['svm@red', 'red'],
    ]);
    const [blue, red] = model.armed;
    if (blue === undefined || red === undefined) throw new Error('two nodes are declared');
    const second = abi.DetourLimit.DT_SECOND_ARM;
    const [a, b] = [indexOf(links, 'eth3'), indexOf(links, 'eth4')];
    const tags = { vlan: 100, outer: 0 };
    const kind = abi.HopKind.HOP_L2;
    expect(hop(rows, red.number)).toMatchObject({ ifindex: a, node: red.number, kind, mtu: 1500, tags });
    expect(hop(rows, red.number + second)).toMatchObject({ ifindex: b, node: red.number, kind, tags });
    expect(hop(rows, blue.number).tags).toEqual({ vlan: 200, outer: 300 });
    const ports = rows.filter(({ table }) => table === 'ports').map(({ id }) => id);
    expect(ports).toEqual(
      expect.arrayContaining([`${a}.100.0`, `${b}.100.0`, `${a}.300.200`, `${b}.300.200`, a, b]),
    );
    const service = rows.find(({ id }) => id === `${a}.100.0`);
    const { PortFlag: flag, PortKind: of } = abi;
    expect(service && abi.port.decode(service.value)).toMatchObject({
      kind: of.PORT_SERVICE,
      node: red.number,
      flags: flag.PORT_ARM_A,
      number: model.servicePorts[0]?.number,
    });
    const trunk = rows.find(({ id }) => id === a);
    expect(trunk && abi.port.decode(trunk.value)).toMatchObject({
      kind: of.PORT_NONE,
      flags: flag.PORT_TAGS,
    });
  });

  it('without the next hop MACs they are there and not usable', () => {
    const { model, rows } = machine(RED, false);
    expect(hop(rows, model.armed[0]?.number ?? 0).mtu).toBe(0);
  });

  it('each member has its address and the one that the other takes for its next hop', () => {
    const { model, links } = machine(RED);
    const made = vtiDevices(model, links, () => 1500);
    expect(made.map(({ device, addresses, arm }) => [device, addresses, arm])).toEqual([
      ['vlan-up', ['198.51.100.2/30'], false],
      ['arm-svm-a', ['10.10.10.1/30', '10.10.20.2/32'], true],
      ['arm-svm-b', ['10.10.20.1/30', '10.10.10.2/32'], true],
    ]);
    expect(made[1]?.mac).toBe(links.get('eth3')?.mac);
    expect([...trunkDevices(model)].sort()).toEqual(['eth1', 'eth3', 'eth4']);
    expect(attachedDevices(model)).toEqual(expect.arrayContaining(['eth3', 'eth4', 'arm-svm-a', 'vlan-up']));
    expect(machineShape(model)).not.toBe(machineShape(modelOf(`red: ${pair('vlan: 101,')}`)));
  });

  it('a VLAN port is reached by its own device, and leaves with its tag', () => {
    const { model, links, rows } = machine(RED);
    const up = model.ports.find(({ name }) => name === 'up');
    expect(up).toMatchObject({ device: 'vlan-up', vlan: { lower: 'eth1', tags: { vlan: 10, outer: 0 } } });
    const number = 8192 + (up?.number ?? 0);
    expect(hop(rows, number)).toMatchObject({
      ifindex: indexOf(links, 'eth1'),
      kind: abi.HopKind.HOP_VLAN,
      tags: { vlan: 10, outer: 0 },
    });
    const egress = rows.find(({ table, id }) => table === 'egress' && id === indexOf(links, 'vlan-up'));
    expect(egress && new Uint32Array(egress.value.slice().buffer)[0]).toBe(number);
  });
});
