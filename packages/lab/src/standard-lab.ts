// SPDX-License-Identifier: Apache-2.0
/**
 * The standard lab: a client and a server on two sides of a gateway, firewalls behind it on an underlay, and a
 * management network. What the gateway makes itself (VTIs, forwarding, guards) is not here.
 */
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import {
  type BfdDaemon,
  type BfdTiming,
  firewallAddresses,
  firewallDevices,
  firewallNamespace,
} from './firewall-spec.js';
import { promptly } from './process.js';
import type { LabSpec, LinkEnd, LinkSpec, NamespaceSpec, ProcessSpec } from './spec.js';

export interface StandardLabOptions {
  /** How many firewalls, 1 to 8; default 2. */
  readonly firewalls?: number;
  /** BFD daemon per firewall, in order; default BIRD and FRR in turn. */
  readonly daemons?: readonly BfdDaemon[];
  readonly bfd?: BfdTiming;
  readonly forbiddenPort?: number;
  /** Bytes; default 1,600, so that 1,500 fit into the tunnels. */
  readonly underlayMtu?: number;
  /** How many addresses the client has (10.1.0.10 and up), 1 to 200; default 16. */
  readonly clientAddresses?: number;
  /** Server processes that share its ports; one holds at most the open-files limit of connections. Default 1. */
  readonly serverWorkers?: number;
}

/** Addresses and ports of the standard lab; the server listens on all of its addresses. */
export const standardAddresses = {
  client: '10.1.0.10',
  client6: '2001:db8:1::10',
  server: '203.0.113.9',
  server2: '203.0.113.10',
  server6: '2001:db8:2::9',
  edgeInside: '10.1.0.1',
  edgeOutside: '203.0.113.1',
  edgeUnderlay: '192.0.2.1',
  management: '172.30.0.1',
  edgeManagement: '172.30.0.2',
} as const;

export const standardPorts = {
  /** HTTP; the last one is the firewalls' forbidden port. */
  http: [80, 8080, 8081],
  /** HTTP that no rule should name. */
  httpUnruled: 9000,
  /** TCP and UDP echo. */
  echo: 8007,
  echoUnruled: 9007,
} as const;

/** VRF `red` of the gateway is this Linux routing table. */
export const standardTable = 100;

const defaultUnderlayMtu = 1600;

/** The client's addresses, IPv4. */
export function clientAddresses(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `10.1.0.${10 + i}`);
}

/** @throws Fault when an option is out of its range. */
export function standardLab(options: StandardLabOptions = {}): LabSpec {
  const firewalls = options.firewalls ?? 2;
  const clients = options.clientAddresses ?? 16;
  if (!(firewalls >= 1 && firewalls <= 8)) throw new Fault('invalid', `firewalls: ${firewalls}: use 1 to 8`);
  if (!(clients >= 1 && clients <= 200))
    throw new Fault('invalid', `clientAddresses: ${clients}: use 1 to 200`);
  const indexes = Array.from({ length: firewalls }, (_, i) => i + 1);
  const at = standardAddresses;
  const mtu = options.underlayMtu ?? defaultUnderlayMtu;

  const firewallSpaces = indexes.map((index): [string, NamespaceSpec] => {
    const daemon = options.daemons?.[index - 1];
    const { bfd, forbiddenPort } = options;
    const spec = {
      index,
      ...(daemon && { daemon }),
      ...(bfd && { bfd }),
      ...(forbiddenPort && { forbiddenPort }),
      tunnelMtu: Math.min(1500, mtu - 50),
    };
    return [firewallAddresses(index).name, firewallNamespace(spec)];
  });
  return {
    namespaces: {
      client: {
        routes: [
          { to: 'default', via: at.edgeInside },
          { to: '::/0', via: '2001:db8:1::1' },
        ],
        sysctls: manyPorts,
      },
      server: {
        routes: [
          { to: 'default', via: at.edgeOutside },
          { to: '::/0', via: '2001:db8:2::1' },
        ],
        sysctls: manyPorts,
        processes: [serverProcess(options.serverWorkers ?? 1)],
      },
      edge1: {
        routes: [
          { to: '10.1.0.0/24', dev: 'eth1', src: at.edgeInside, table: standardTable },
          { to: '2001:db8:1::/64', dev: 'eth1', table: standardTable },
          { to: '203.0.113.0/24', dev: 'eth2', src: at.edgeOutside, table: standardTable },
          { to: '2001:db8:2::/64', dev: 'eth2', table: standardTable },
        ],
      },
      underlay: { bridges: [{ name: 'br0', mtu }] },
      mgmt: { bridges: [{ name: 'br0', addresses: [`${at.management}/24`] }] },
      ...Object.fromEntries(firewallSpaces),
    },
    links: [
      {
        a: {
          ns: 'client',
          device: 'eth0',
          mac: '02:00:00:01:00:10',
          addresses: [...clientAddresses(clients).map((a) => `${a}/24`), `${at.client6}/64`],
          txOffload: 'off',
          xdpPass: true,
        },
        b: {
          ns: 'edge1',
          device: 'eth1',
          mac: '02:00:00:01:00:01',
          addresses: [`${at.edgeInside}/24`, '2001:db8:1::1/64'],
          txOffload: 'off',
        },
      },
      {
        a: {
          ns: 'server',
          device: 'eth0',
          mac: '02:00:00:02:00:09',
          addresses: [`${at.server}/24`, `${at.server2}/24`, `${at.server6}/64`],
          txOffload: 'off',
          xdpPass: true,
        },
        b: {
          ns: 'edge1',
          device: 'eth2',
          mac: '02:00:00:02:00:01',
          addresses: [`${at.edgeOutside}/24`, '2001:db8:2::1/64'],
          txOffload: 'off',
        },
      },
      underlayLink({ ns: 'edge1', mac: '02:00:00:03:00:01', addresses: [`${at.edgeUnderlay}/24`] }, mtu),
      managementLink('edge1', at.edgeManagement),
      ...indexes.flatMap((index) => {
        const { name, underlay, management } = firewallAddresses(index);
        const mac = `02:00:00:03:00:1${index}`;
        return [
          underlayLink({ ns: name, mac, addresses: [`${underlay}/24`] }, mtu),
          managementLink(name, management),
        ];
      }),
    ],
  };
}

/** Many connections from few addresses need the whole range of ports. */
const manyPorts = { 'net.ipv4.ip_local_port_range': '1024 65535' } as const;

/** Of a machine to the bridge of `underlay`; `mtu` in bytes. */
export function underlayLink(end: Omit<LinkEnd, 'device'>, mtu: number): LinkSpec {
  return {
    a: { ...end, device: firewallDevices.underlay, txOffload: 'off' },
    b: { ns: 'underlay', device: end.ns, bridge: 'br0', txOffload: 'off', xdpPass: true },
    mtu,
  };
}

/** Of a machine to the bridge of `mgmt`. */
export function managementLink(ns: string, address: string): LinkSpec {
  return {
    a: { ns, device: firewallDevices.management, addresses: [`${address}/24`] },
    b: { ns: 'mgmt', device: ns, bridge: 'br0' },
  };
}

function serverProcess(workers: number): ProcessSpec {
  const main = fileURLToPath(new URL('../dist/agents/server.js', import.meta.url));
  const http = [...standardPorts.http, standardPorts.httpUnruled];
  const echo = [standardPorts.echo, standardPorts.echoUnruled];
  const argv = [...promptly, process.execPath, main, JSON.stringify({ http, echo, workers })];
  return { name: 'server', argv, readyLog: 'ready' };
}
