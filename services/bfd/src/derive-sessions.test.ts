// SPDX-License-Identifier: Apache-2.0
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { deriveSessions } from './derive-sessions.js';

const document = `
apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }, { name: blue, table: 200 }]
gateways:
  - { name: edge1, underlay: { device: eth0, address: 192.0.2.1 }, ports: [] }
  - { name: edge2, underlay: { device: eth0, address: 192.0.2.2 }, ports: [] }
healthProfiles:
  - { name: fast, bfd: { minTxMs: 50, minRxMs: 40, multiplier: 3, echo: { everyMs: 30, multiplier: 4 } } }
  - { name: plain, bfd: { minTxMs: 300, minRxMs: 300, multiplier: 5 } }
services: [{ name: firewall }, { name: ids }]
nodes:
  - name: fw1
    service: firewall
    health: fast
    attach: { kind: tunnel, protocol: vxlan, remote: 192.0.2.11, vni: 4001, vrf: red, gateways: {
      edge1: { local: 169.254.1.1/30, peer: 169.254.1.2 }, edge2: { local: 169.254.1.5/30, peer: 169.254.1.6 } } }
  - name: a-very-long-name
    service: firewall
    health: plain
    attach: { kind: tunnel, protocol: vxlan, remote: 192.0.2.12, vni: 4002, vrf: red, gateways: {
      edge1: { local: "fd00:0::1/64", peer: "fd00::0:2" } } }
  - name: unwatched
    service: firewall
    attach: { kind: tunnel, protocol: vxlan, remote: 192.0.2.13, vni: 4003, vrf: red, gateways: {
      edge1: { local: 169.254.3.1/30, peer: 169.254.3.2 } } }
  - name: bump
    service: ids
    health: plain
    attach: { kind: l2pair, gateway: edge1, a: { device: eth3 }, b: { device: eth4 }, vrfs: {
      red: { vlan: 100, a: { address: 10.10.10.1/30, nextHop: 10.10.10.2 }, b: { address: 10.10.20.1/30, nextHop: 10.10.20.2 } },
      blue: { vlan: 200, a: { address: 10.10.10.1/30, nextHop: 10.10.10.2 }, b: { address: 10.10.20.1/30, nextHop: 10.10.20.2 } } } }
  - name: router
    service: firewall
    health: plain
    attach: { kind: l3, vrf: red, gateway: edge1, device: eth5, address: 10.20.1.1/24, nextHop: 10.20.1.2,
      deviceBack: eth6, addressBack: 10.20.2.1/24, nextHopBack: 10.20.2.2 }
  - name: onearm
    service: firewall
    health: fast
    attach: { kind: l3, vrf: red, gateway: edge1, device: eth7, address: 10.30.1.1/24, nextHop: 10.30.1.2 }
`;

/** With a chain that leads to the pair. */
const withChain = `${document}chains: [{ name: watch, hops: [ids] }]\n`;

describe('deriveSessions', () => {
  const revision = revisionOf(document);

  it('gives each gateway its own end of every tunnel whose health is asked for', () => {
    const sessions = deriveSessions(revision, 'edge1').filter(({ device }) => device.startsWith('vti'));
    expect(sessions.map(({ id }) => id).sort()).toEqual(['a-very-long-name', 'fw1']);
    expect(sessions.find(({ id }) => id === 'fw1')).toEqual({
      id: 'fw1',
      node: 'fw1',
      vrf: 'red',
      device: 'vti-fw1',
      local: '169.254.1.1',
      peer: '169.254.1.2',
      hears: '169.254.1.2',
      end: null,
      multihop: null,
      timers: { desiredMinTxUs: 50_000, requiredMinRxUs: 40_000, detectMult: 3 },
      echo: { everyUs: 30_000, multiplier: 4 },
    });
    expect(sessions.find(({ id }) => id !== 'fw1')).toMatchObject({
      device: `vti-n${revision.numbers.nodes['a-very-long-name']}`,
      local: 'fd00::1',
      peer: 'fd00::2',
      echo: null,
    });
    expect(deriveSessions(revision, 'edge2')).toMatchObject([
      { id: 'fw1', local: '169.254.1.5', peer: '169.254.1.6' },
    ]);
    expect(deriveSessions(revision, 'edge9')).toEqual([]);
  });

  it('through a pair one session in each VRF, from member to member, while a chain leads there (VRFC-10)', () => {
    const ofPair = (text: string) =>
      deriveSessions(revisionOf(text), 'edge1').filter(({ node }) => node === 'bump');
    expect(ofPair(document)).toEqual([]);
    const sessions = ofPair(withChain);
    expect(sessions.map(({ id }) => id)).toEqual(['bump/blue/a', 'bump/blue/b', 'bump/red/a', 'bump/red/b']);
    const { numbers } = revisionOf(withChain);
    expect(sessions.slice(2)).toMatchObject([
      { end: 'a', local: '10.10.10.1', peer: '10.10.10.2', hears: '10.10.20.1', multihop: null },
      { end: 'b', local: '10.10.20.1', peer: '10.10.20.2', hears: '10.10.10.1', multihop: null },
    ]);
    expect(sessions.map(({ device }) => device)).toEqual(
      (['blue', 'red'] as const).flatMap((vrf) =>
        ['a', 'b'].map((end) => `arm-n${numbers.nodes[`bump@${vrf}`]}-${end}`),
      ),
    );
  });

  it('through a router from arm to arm over its hop; with one arm to the router itself, with echo', () => {
    const sessions = deriveSessions(revision, 'edge1');
    expect(sessions.filter(({ node }) => node === 'router')).toMatchObject([
      {
        id: 'router/red/a',
        device: 'arm-router-a',
        peer: '10.20.1.2',
        hears: '10.20.2.1',
        multihop: { to: '10.20.2.1' },
      },
      {
        id: 'router/red/b',
        device: 'arm-router-b',
        peer: '10.20.2.2',
        hears: '10.20.1.1',
        multihop: { to: '10.20.1.1' },
      },
    ]);
    expect(sessions.find(({ node }) => node === 'onearm')).toMatchObject({
      id: 'onearm',
      device: 'arm-onearm-a',
      peer: '10.30.1.2',
      end: null,
      multihop: null,
      echo: { everyUs: 30_000, multiplier: 4 },
    });
  });

  it('routes that a node must advertise are those of its VRF, by its tunnel; without bfd nothing is said to it', () => {
    const routed = document
      .replace(
        'healthProfiles:',
        `healthProfiles:
  - { name: routed, bfd: {}, route: { prefixes: [198.51.100.0/24, "2001:DB8:51::/48"] } }
  - { name: advertised, route: { prefixes: [0.0.0.0/0] } }`,
      )
      .replace('health: fast\n    attach: { kind: tunnel', 'health: routed\n    attach: { kind: tunnel')
      .replace('health: plain\n    attach: { kind: tunnel', 'health: advertised\n    attach: { kind: tunnel')
      .replaceAll('vrf: red, gateways', 'vrf: blue, gateways');
    const sessions = deriveSessions(revisionOf(routed), 'edge1');
    const [fw1, other] = ['fw1', 'a-very-long-name'].map((name) => sessions.find(({ id }) => id === name));
    expect(fw1).toMatchObject({ route: { table: 200, prefixes: ['198.51.100.0/24', '2001:db8:51::/48'] } });
    expect(fw1?.noControl).toBeUndefined();
    expect(other).toMatchObject({
      noControl: true,
      echo: null,
      route: { table: 200, prefixes: ['0.0.0.0/0'] },
    });
  });

  it('names what a revision that contradicts itself lacks', () => {
    const broken = { ...revision, numbers: { ...revision.numbers, nodes: {} } };
    expect(() => deriveSessions(broken, 'edge1')).toThrowError(/revision 1: node .* has no number/);
  });

  it('an appliance behind gwlb has no daemon: packets to ourselves, and a TCP port', () => {
    const appliance = document
      .replace(
        'healthProfiles:',
        'healthProfiles:\n  - { name: app, bfd: { echo: { everyMs: 30, multiplier: 4 } }, tcp: { port: 8080 } }',
      )
      .replace(
        'nodes:',
        'nodes:\n  - { name: app1, service: firewall, health: app, attach: { kind: gwlb, vrf: red, remote: 192.0.2.31, gateways: [edge1] } }',
      );
    const of = (gateway: string) =>
      deriveSessions(revisionOf(appliance), gateway).find(({ id }) => id === 'app1');
    expect(of('edge1')).toMatchObject({
      device: 'vti-app1',
      local: '192.0.0.8',
      peer: '192.0.0.8',
      noControl: true,
      echo: { everyUs: 30_000, multiplier: 4 },
      tcp: { address: '192.0.2.31', port: 8080, everyMs: 1_000, multiplier: 3 },
    });
    expect(of('edge2')).toBeUndefined();
  });
});
