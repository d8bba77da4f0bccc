// SPDX-License-Identifier: Apache-2.0
// Small intents, tables, flows and a machine of their own for this service's tests.
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type BpfObject, openObject } from '@detour/bpf';
import {
  AffinityKind,
  type ChainRow,
  OnFailure,
  OnNodeDown,
  OnRuleChange,
  type PathRow,
  RuleAction,
  type RuleRow,
  SelectPolicy,
} from '@detour/contracts';
import { Fault, normaliseTuple, parsePrefix, type Tuple } from '@detour/core';
import koffi from 'koffi';
import type { FlowQuestion } from './decision.js';
import { FlowSlots } from './flow-slots.js';
import { FlowTable, type FlowTableOptions } from './flow-table.js';
import { addressBytes } from './row-bytes.js';

export interface ExampleText {
  /** Names of firewalls; the n-th is at 192.0.2.(10 + n), VNI 4000 + n, inner 169.254.n.1/30 and .2. */
  readonly nodes?: readonly string[];
  /** Lines of edge1's ports. */
  readonly ports?: readonly string[];
  readonly rules?: readonly string[];
  readonly underlay?: string;
  /** Routing table of its one VRF. */
  readonly table?: number;
}

export const EXAMPLE_PORTS = [
  '{ name: inside, kind: internal, device: eth1, vrf: red, classify: true }',
  '{ name: outside, kind: uplink, device: eth2, vrf: red, classify: true }',
];

/** One VRF (table 100), gateway edge1, firewalls with a health profile, chain `inspect`. */
export function exampleText({
  nodes = ['fw1', 'fw2'],
  ports = EXAMPLE_PORTS,
  rules = [
    '{ name: web, priority: 100, match: { vrf: red, protocol: tcp, destinationPorts: [80] }, action: { chain: inspect } }',
  ],
  underlay = '{ device: eth0, address: 192.0.2.1 }',
  table = 100,
}: ExampleText = {}): string {
  const node = (name: string, n: number) =>
    `  - { name: ${name}, service: firewall, health: fast, attach: { kind: tunnel, protocol: vxlan, remote: 192.0.2.${10 + n}, vni: ${4000 + n}, strictReturn: true, gateways: { edge1: { local: 169.254.${n}.1/30, peer: 169.254.${n}.2 } } } }`;
  return `apiVersion: detour/v1
vrfs: [{ name: red, table: ${table} }]
gateways:
  - name: edge1
    underlay: ${underlay}
    ports:
${ports.map((port) => `      - ${port}`).join('\n')}
healthProfiles:
  - { name: fast, bfd: { minTxMs: 50, minRxMs: 50, multiplier: 3, echo: { everyMs: 50, multiplier: 3 } } }
services: [{ name: firewall }]
nodes:
${nodes.map((name, i) => node(name, i + 1)).join('\n')}
chains: [{ name: inspect, hops: [firewall] }]
rules:
${rules.map((rule) => `  - ${rule}`).join('\n')}
`;
}

export function pathRow(number: number, nodes: number[], weight = 100): PathRow {
  const shape = { skipped: 0, belowLevel: 0, hosts: nodes.length };
  return { number, nodes, weight, fallbackWeight: 100, drained: false, ...shape };
}

export function chainRow(change: Partial<ChainRow> = {}): ChainRow {
  return {
    number: 1,
    name: 'inspect',
    onFailure: OnFailure.DROP,
    backup: 0,
    onNodeDown: OnNodeDown.REBALANCE,
    onRuleChange: OnRuleChange.REVALIDATE,
    affinity: AffinityKind.FIVE_TUPLE,
    select: SelectPolicy.WEIGHTED,
    idleTcpMs: 3_600_000n,
    idleUdpMs: 120_000n,
    idleOtherMs: 60_000n,
    paths: [pathRow(1, [1]), pathRow(2, [2])],
    allStale: false,
    mss: 0,
    keepsTier: false,
    ...change,
  };
}

/** TCP to port 80 of VRF 1, to chain 1. */
export function ruleRow(change: Partial<RuleRow> = {}): RuleRow {
  return {
    number: 1,
    name: 'web',
    priority: 100,
    vrf: 1,
    sources: [],
    destinations: [],
    protocols: [6],
    sourcePorts: [],
    destinationPorts: [{ first: 80, last: 80 }],
    appliedTo: [],
    action: RuleAction.CHAIN,
    chain: 1,
    level: '',
    dropUnresolved: true,
    ...change,
  };
}

export function prefixRow(text: string): RuleRow['sources'][number] {
  const prefix = parsePrefix(text);
  if (prefix === null) throw new Fault('invalid', `${text} is no prefix`);
  return prefix;
}

export interface ExampleFlow {
  readonly src?: string;
  readonly dst?: string;
  readonly sport?: number;
  readonly dport?: number;
  readonly proto?: number;
  readonly vrf?: number;
  readonly port?: number;
  readonly syn?: boolean;
}

/** A flow from 10.1.0.10 to port 80 of 203.0.113.9, unless said. */
export function flowQuestion(flow: ExampleFlow = {}): FlowQuestion {
  const tuple: Tuple = {
    vrf: flow.vrf ?? 1,
    proto: flow.proto ?? 6,
    src: addressBytes(flow.src ?? '10.1.0.10'),
    dst: addressBytes(flow.dst ?? '203.0.113.9'),
    sport: flow.sport ?? 40_000,
    dport: flow.dport ?? 80,
  };
  return { tuple, ...normaliseTuple(tuple), port: flow.port ?? 1, syn: flow.syn ?? true };
}

const CLONE_NEWNET = 0x4000_0000;

/** Puts this test's thread, and the processes that it starts, into a namespace that a lab made. It stays there. */
export function enterNamespace(name: string): void {
  const setns = koffi.load('libc.so.6').func('int setns(int fd, int kind)');
  const fd = openSync(`/run/netns/${name}`, 'r');
  const failed = setns(fd, CLONE_NEWNET) !== 0;
  closeSync(fd);
  if (failed) throw new Fault('permission', `cannot enter namespace ${name}: run the tests as root`);
}

/** A bpffs of the test's own. */
export function mountBpffs(path: string): Disposable {
  mkdirSync(path, { recursive: true });
  execFileSync('mount', ['-t', 'bpf', 'bpf', path]);
  return {
    [Symbol.dispose]: () => {
      execFileSync('umount', [path]);
      rmdirSync(path);
    },
  };
}

const DATAPATH = fileURLToPath(new URL('../../../datapath/', import.meta.url));

/** A flow table on small maps of the kernel; the program is compiled, and not attached. */
export function openFlowTable(change: Partial<FlowTableOptions> = {}): {
  readonly table: FlowTable;
  readonly object: BpfObject;
} {
  execFileSync('flock', [`${DATAPATH}Makefile`, 'make', '-s', '-C', DATAPATH]);
  const object = openObject(`${DATAPATH}build/edge.bpf.o`, {
    maxEntries: { flows: 64, embryos: 64, flow_counters: 129 },
  });
  const table = new FlowTable({
    maps: {
      flows: object.map('flows'),
      embryos: object.map('embryos'),
      counters: object.map('flow_counters'),
    },
    slots: new FlowSlots(129),
    nowMs: () => 0,
    nowNs: () => process.hrtime.bigint(),
    rulesGen: () => 1,
    chainGen: () => 1,
    onReplaced: () => {},
    isInside: () => false,
    ...change,
  });
  return { table, object };
}
