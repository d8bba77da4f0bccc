// SPDX-License-Identifier: Apache-2.0
// The way that a packet would take, read from the tables and records that are live now, in the datapath's own order (datapath/edge.bpf.c).
// It changes nothing: no record, no counter. A test compares its answer with what the datapath then does to that very packet.
import { abi } from '@detour/contracts';
import { type FlowKey, formatAddress, isMappedV4, normaliseTuple, type Tuple } from '@detour/core';
import {
  classifyLocally,
  decideLocally,
  type FlowQuestion,
  forwardTuple,
  type LiveTables,
} from './decision.js';
import { unpackFlowWord } from './flow-word.js';
import type { ChainModel, GatewayModel, NodeModel, PathModel, PortModel } from './model.js';

export interface TracePacket {
  readonly port: string; // a port's name, or a node's for a packet that it returns
  readonly tuple: Omit<Tuple, 'vrf'>;
  readonly syn: boolean;
  readonly lengthBytes: number; // L3
  readonly ttl: number;
}

export interface TraceStep {
  readonly step: string;
  readonly found: string;
  readonly why: string;
}

export interface TraceAnswer {
  readonly steps: readonly TraceStep[];
  readonly verdict: 'forward' | 'pass' | 'drop' | 'punt';
  readonly reason: string;
  readonly egress: string;
  readonly node: string;
}

export interface RouteAnswer {
  readonly device: string;
  readonly via: string;
  readonly mtu: number;
  readonly text: string;
}

/** What the trace reads; all of it live. */
export interface TraceView {
  readonly model: GatewayModel;
  readonly tables: LiveTables;
  readonly live: boolean;
  readonly record: (key: FlowKey) => { flow: abi.Flow; established: boolean } | null;
  readonly isOwn: (vrf: number, address: Uint8Array) => boolean;
  /** The way out by a VRF's Linux routing table; null: no route. */
  readonly route: (table: number, dst: Uint8Array) => Promise<RouteAnswer | null>;
  readonly neighbour: (device: string, address: string) => string | null;
  readonly hop: (node: NodeModel) => { ready: boolean; why: string; mtu: number; device: string };
}

type End = Omit<TraceAnswer, 'steps'>;
const drop = (reason: string): End => ({ verdict: 'drop', reason, egress: '', node: '' });
const pass: End = { verdict: 'pass', reason: '', egress: '', node: '' };
const punt = (reason: string): End => ({ verdict: 'punt', reason, egress: '', node: '' });

/** Never throws for a packet; an unknown port or node is an answer too. */
export async function tracePacket(view: TraceView, packet: TracePacket): Promise<TraceAnswer> {
  const steps: TraceStep[] = [];
  const add = (step: string, found: string, why = '') => void steps.push({ step, found, why });
  const end = await walk(view, packet, add);
  add(
    'verdict',
    end.reason === '' ? end.verdict : `${end.verdict} ${end.reason}`,
    end.egress === '' ? '' : `out of ${end.egress}`,
  );
  return { steps, ...end };
}

type Add = (step: string, found: string, why?: string) => void;

async function walk(view: TraceView, packet: TracePacket, add: Add): Promise<End> {
  const { model } = view;
  const node = model.nodes.find((row) => row.name === packet.port);
  const port = model.ports.find((row) => row.name === packet.port);
  if (node !== undefined && port === undefined) return returned(view, packet, node, add);
  if (port === undefined) {
    add('port', 'unknown', `gateway ${model.gateway} has no port and no node ${packet.port}`);
    return pass;
  }
  add(
    'port',
    `${port.name} (${port.kind}, ${port.device})`,
    `number ${port.number}, VRF ${port.vrf}, classify ${port.classify}`,
  );
  const tuple: Tuple = { ...packet.tuple, vrf: port.vrf };
  const local = isLocalAlways(tuple);
  if (local !== null) {
    add('local', local, 'never steered');
    return pass;
  }
  if (packet.ttl <= 1) {
    add('ttl', `${packet.ttl}`, 'it ends here; the kernel answers with time exceeded');
    return pass;
  }
  const asked = normaliseTuple(tuple);
  let key = asked.key;
  let record = view.record(key);
  if (record !== null) {
    const { initiatorIsB } = unpackFlowWord(record.flow.word);
    const forward = (asked.norm === 1) === initiatorIsB;
    if (forward && record.flow.fwdPort !== 0 && record.flow.fwdPort !== port.number) {
      add(
        'flow',
        'recorded for another port',
        `its forward side enters by port number ${record.flow.fwdPort}`,
      );
      key = { ...key, scope: port.number };
      record = view.record(key);
    }
  }
  const question: FlowQuestion = { tuple, key, norm: asked.norm, port: port.number, syn: packet.syn };
  return record === null
    ? unknown(view, packet, port, question, add)
    : known(view, packet, port, question, record, add);
}

function isLocalAlways(tuple: Tuple): string | null {
  const { dst } = tuple;
  const first = dst[12] ?? 0;
  if (isMappedV4(dst)) {
    if (first >> 4 === 14 || formatAddress(dst) === '255.255.255.255') return 'multicast or broadcast';
    return null;
  }
  if (dst[0] === 0xff) return 'multicast';
  return dst[0] === 0xfe && ((dst[1] ?? 0) & 0xc0) === 0x80 ? 'link-local' : null;
}

async function unknown(
  view: TraceView,
  packet: TracePacket,
  port: PortModel,
  question: FlowQuestion,
  add: Add,
): Promise<End> {
  add('flow', 'no record', `neither established nor embryonic`);
  const { tuple } = question;
  if (view.isOwn(port.vrf, tuple.dst)) {
    add('local', `${formatAddress(tuple.dst)} is this gateway's own`);
    return pass;
  }
  if (view.isOwn(port.vrf, tuple.src)) {
    add('local', `source ${formatAddress(tuple.src)} is this gateway's own`, 'nobody else may send from it');
    return drop('spoof');
  }
  if (!port.classify) {
    add('rule', 'not looked up', `port ${port.name} does not classify`);
    return leave(view, packet, port.table, tuple, add);
  }
  if (!view.live) {
    add('tables', 'no revision is live yet');
    return drop('not_live');
  }
  const found = classifyLocally(view.tables, question);
  add('rule', view.model.ruleNames.get(found.rule) ?? 'none', found.why);
  const decision = decideLocally(view.tables, question, found);
  switch (decision.action) {
    case 'allow':
      return leave(view, packet, port.table, tuple, add);
    case 'drop':
      return drop('rule');
    case 'unresolved-drop':
      return drop('unresolved');
    case 'steer':
      break;
  }
  const chain = view.tables.chains.get(decision.chain);
  add(
    'chain',
    chain?.name ?? `${decision.chain}`,
    'the path is chosen by the selection table, unless Redis knows a pin',
  );
  if (chain === undefined) return drop('no_table');
  const direction = found.reversed ? 1 : 0;
  return toPath(
    view,
    packet,
    {
      chain,
      path: decision.path,
      direction,
      table: port.table,
      tuple,
      forward: forwardTuple(question, found.reversed),
    },
    add,
  );
}

async function known(
  view: TraceView,
  packet: TracePacket,
  port: PortModel,
  question: FlowQuestion,
  record: { flow: abi.Flow; established: boolean },
  add: Add,
): Promise<End> {
  const { flow } = record;
  const word = unpackFlowWord(flow.word);
  const direction = (question.norm === 1) === word.initiatorIsB ? 0 : 1;
  add(
    'flow',
    record.established ? 'established' : 'embryonic',
    `${direction === 0 ? 'forward' : 'reverse'} direction of its record, rule ${view.model.ruleNames.get(flow.rule) ?? 'none'}`,
  );
  switch (word.action) {
    case abi.FlowAction.FLOW_PENDING:
      return punt('pending');
    case abi.FlowAction.FLOW_ALLOW:
      return leave(view, packet, port.table, question.tuple, add);
    case abi.FlowAction.FLOW_DROP:
      return drop((word.flags & abi.FlowWordFlag.WORD_FLAG_UNRESOLVED) !== 0 ? 'unresolved' : 'rule');
    default:
      break;
  }
  const chain = view.tables.chains.get(flow.chain);
  add('chain', chain?.name ?? `${flow.chain}`, 'from the record');
  if (chain === undefined) return drop('no_table');
  return toPath(
    view,
    packet,
    {
      chain,
      path: renewedPath(view, chain, word, question, add),
      direction,
      table: port.table,
      tuple: question.tuple,
      forward: question.tuple,
      keptDown: isKeptDown(chain, word.path),
    },
    add,
  );
}

function isKeptDown(chain: ChainModel, path: number): boolean {
  return chain.onNodeDown === 'keep' && chain.paths.some((row) => row.number === path && !row.up);
}

/** The path of a record after the datapath's revalidation. */
function renewedPath(
  view: TraceView,
  chain: ChainModel,
  word: { path: number; chainGen: number; initiatorIsB: boolean },
  question: FlowQuestion,
  add: Add,
): number {
  const path = chain.paths.find((row) => row.number === word.path);
  if (path?.up === true) return word.path;
  if (isKeptDown(chain, word.path)) return word.path;
  const forward = (question.norm === 1) === word.initiatorIsB;
  const next = decideLocally(view.tables, question, {
    action: 3,
    rule: 0,
    chain: chain.number,
    reversed: !forward,
    dropUnresolved: true,
    why: '',
  }).path;
  add('path', `${word.path} is down`, next === 0 ? 'no other is up' : `its next packet moves to ${next}`);
  return next;
}

interface OnPath {
  readonly chain: ChainModel;
  readonly path: number;
  readonly direction: 0 | 1;
  readonly table: number;
  readonly tuple: Tuple;
  readonly forward: Tuple;
  readonly keptDown?: boolean;
}

async function toPath(view: TraceView, packet: TracePacket, on: OnPath, add: Add): Promise<End> {
  if (on.path === 0 || on.keptDown === true) {
    add('path', 'none is up', `onFailure ${on.chain.onFailure}`);
    return on.chain.onFailure === 'bypass' && on.keptDown !== true
      ? leave(view, packet, on.table, on.tuple, add)
      : drop('node_down');
  }
  const path = pathOf(view, on.path);
  if (path === undefined) return drop('no_table');
  const names = path.nodes.map(
    (number) => view.model.nodes.find((row) => row.number === number)?.name ?? `${number}`,
  );
  add(
    'path',
    `${on.path} = ${names.join(' → ')}`,
    on.direction === 0 ? 'forward' : 'reverse, nodes in reverse order',
  );
  const first = on.direction === 0 ? path.nodes[0] : path.nodes.at(-1);
  return toNode(view, packet, first, add);
}

function pathOf(view: TraceView, number: number): PathModel | undefined {
  for (const chain of view.tables.chains.values()) {
    const path = chain.paths.find((row) => row.number === number);
    if (path !== undefined) return path;
  }
  return undefined;
}

function toNode(view: TraceView, packet: TracePacket, number: number | undefined, add: Add): End {
  const node = view.model.nodes.find((row) => row.number === number);
  if (node === undefined) return drop('no_table');
  const hop = view.hop(node);
  add(
    'hop',
    `${node.name} through ${node.device}`,
    hop.ready ? `VXLAN to ${node.remote}, VNI ${node.vni}` : hop.why,
  );
  if (!hop.ready) return drop('hop_not_ready');
  if (packet.lengthBytes > hop.mtu) {
    add('mtu', `${packet.lengthBytes} bytes`, `more than the hop's ${hop.mtu}`);
    return drop('too_big');
  }
  return { verdict: 'forward', reason: '', egress: hop.device, node: node.name };
}

/** A packet that a node returns: its flow must have been sent to that node. */
async function returned(view: TraceView, packet: TracePacket, node: NodeModel, add: Add): Promise<End> {
  add('port', `${node.name} (service, ${node.device})`, 'a service port never classifies');
  const tuple: Tuple = { ...packet.tuple, vrf: node.vrf };
  if (isLocalAlways(tuple) !== null || view.isOwn(node.vrf, tuple.dst)) return pass;
  const { key, norm } = normaliseTuple(tuple);
  const record = view.record(key);
  const word = record === null ? null : unpackFlowWord(record.flow.word);
  const path =
    word === null || word.action !== abi.FlowAction.FLOW_STEER ? undefined : pathOf(view, word.path);
  const position = path?.nodes.indexOf(node.number) ?? -1;
  if (word === null || path === undefined || position < 0) {
    add(
      'flow',
      record === null ? 'no record' : 'not sent to this node',
      node.strictReturn ? 'strictReturn' : '',
    );
    return node.strictReturn ? drop('strict_return') : leave(view, packet, node.table, tuple, add);
  }
  const direction = (norm === 1) === word.initiatorIsB ? 0 : 1;
  add(
    'flow',
    record?.established === true ? 'established' : 'embryonic',
    direction === 0 ? 'forward' : 'reverse',
  );
  const next = path.nodes[direction === 0 ? position + 1 : position - 1];
  if (next !== undefined) return toNode(view, packet, next, add);
  add('path', 'done', 'all nodes of the path have seen it');
  return leave(view, packet, node.table, tuple, add);
}

async function leave(
  view: TraceView,
  packet: TracePacket,
  table: number,
  tuple: Tuple,
  add: Add,
): Promise<End> {
  const route = await view.route(table, tuple.dst);
  if (route === null) {
    add('route', 'none', `table ${table} has no route to ${formatAddress(tuple.dst)}`);
    return drop('no_route');
  }
  add(
    'route',
    `${route.device}${route.via === '' ? '' : ` via ${route.via}`}`,
    `table ${table}: ${route.text}`,
  );
  if (packet.lengthBytes > route.mtu) {
    add('mtu', `${packet.lengthBytes} bytes`, `more than ${route.device}'s ${route.mtu}`);
    return drop('too_big');
  }
  const nextHop = route.via === '' ? formatAddress(tuple.dst) : route.via;
  const mac = view.neighbour(route.device, nextHop);
  add(
    'neighbour',
    mac ?? 'not resolved',
    mac === null ? 'the packet is held until the kernel has resolved it' : nextHop,
  );
  return mac === null
    ? punt('neighbour')
    : { verdict: 'forward', reason: '', egress: route.device, node: '' };
}
