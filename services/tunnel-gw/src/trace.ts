// SPDX-License-Identifier: Apache-2.0
// The way that a packet would take, read from the tables and records that are live now, in the datapath's own order (datapath/edge.bpf.c).
// It changes nothing: no record, no counter. A test compares its answer with what the datapath then does to that very packet.
import { abi } from '@detour/contracts';
import { formatAddress, isMappedV4, normaliseTuple, PROTO, type Tuple } from '@detour/core';
import { classifyLocally, decideLocally, type FlowQuestion, forwardTuple } from './decision.js';
import { unpackFlowWord } from './flow-word.js';
import { type AnyNode, type ChainModel, everyNode, isArmed, isInside, type PortModel } from './model.js';
import {
  type Add,
  drop,
  type End,
  OUTDATED,
  pass,
  punt,
  type TraceAnswer,
  type TracePacket,
  type TraceStep,
  type TraceView,
} from './trace-answer.js';
import { enteredSnat } from './trace-snat.js';
import { leave, pathOf, toNode, toPath } from './trace-way.js';

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

async function walk(view: TraceView, packet: TracePacket, add: Add): Promise<End> {
  const { model } = view;
  const node = everyNode(model).find((row) => row.label === packet.port);
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
  const back = enteredSnat(view, port, tuple, add);
  if ('verdict' in back) return back;
  return decided(view, packet, port, back, add);
}

async function decided(
  view: TraceView,
  packet: TracePacket,
  port: PortModel,
  tuple: Tuple,
  add: Add,
): Promise<End> {
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
  const outdated = record !== null && packet.syn ? view.outdated(record.flow) : null;
  if (outdated !== null) {
    add('flow', outdated, OUTDATED[outdated]);
    record = null;
  }
  const again = outdated === 'not answered';
  const question: FlowQuestion = { tuple, key, norm: asked.norm, port: port.number, syn: packet.syn, again };
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
    return leave(view, packet, { table: port.table, direction: 0 }, tuple, add);
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
      return leave(view, packet, { table: port.table, direction: found.reversed ? 1 : 0 }, tuple, add);
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
    isDecidedHere(chain, question)
      ? 'the datapath chooses the path by the selection table'
      : typeof chain?.history === 'string'
        ? `the path is chosen by ${chain.history} when the flow begins; here stands that of its slot`
        : 'the path is chosen by the selection table, unless Redis knows a pin',
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
      inside: isInside(port),
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
      return leave(view, packet, { table: port.table, direction }, question.tuple, add);
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
      forward: forwardTuple(question, direction === 1),
      inside: ((word.flags & abi.FlowWordFlag.WORD_FLAG_INSIDE) !== 0) !== (direction === 1),
      keptDown: flow.slot !== 0 && isKeptDown(chain, word.path), // else nothing but its opening was seen
    },
    add,
  );
}

/** As datapath/lib/decide.h has it; a share of these is asked about all the same, for traces. */
function isDecidedHere(chain: ChainModel | undefined, { syn, again, key }: FlowQuestion): boolean {
  if (chain === undefined || chain.decides === 'none' || again === true) return false;
  return key.proto === PROTO.tcp ? syn : chain.decides === 'any';
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
  if (path !== undefined && path.heir !== 0) {
    add('path', `${word.path} is down`, `its next packet moves to ${path.heir}, which shares nodes with it`);
    return path.heir;
  }
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

/** A packet that a node returns: its flow must have been sent to that node. */
async function returned(view: TraceView, packet: TracePacket, node: AnyNode, add: Add): Promise<End> {
  const device = isArmed(node) ? node.arms.map((arm) => arm.device).join(' or ') : node.device;
  const strictReturn = isArmed(node) || node.strictReturn;
  add('port', `${node.label} (service, ${device})`, 'a service port never classifies');
  const tuple: Tuple = { ...packet.tuple, vrf: node.vrf };
  if (isLocalAlways(tuple) !== null || view.isOwn(node.vrf, tuple.dst)) return pass;
  const { key, norm } = normaliseTuple(tuple);
  const record = view.record(key);
  if (record === null && view.isOwn(node.vrf, tuple.src)) {
    add('local', `source ${formatAddress(tuple.src)} is this gateway's own`, 'nobody else may send from it');
    return drop('spoof');
  }
  const word = record === null ? null : unpackFlowWord(record.flow.word);
  const path =
    word === null || word.action !== abi.FlowAction.FLOW_STEER ? undefined : pathOf(view, word.path);
  const position = path?.nodes.indexOf(node.number) ?? -1;
  if (word === null || path === undefined || position < 0) {
    add('flow', record === null ? 'no record' : 'not sent to this node', strictReturn ? 'strictReturn' : '');
    return strictReturn
      ? drop('strict_return')
      : leave(view, packet, { table: node.table, direction: 0 }, tuple, add);
  }
  const direction = (norm === 1) === word.initiatorIsB ? 0 : 1;
  add(
    'flow',
    record?.established === true ? 'established' : 'embryonic',
    direction === 0 ? 'forward' : 'reverse',
  );
  const next = path.nodes[direction === 0 ? position + 1 : position - 1];
  const inside = ((word.flags & abi.FlowWordFlag.WORD_FLAG_INSIDE) !== 0) !== (direction === 1);
  if (next !== undefined) return toNode(view, packet, { number: next, inside }, add);
  add('path', 'done', 'all nodes of the path have seen it');
  return leave(view, packet, { table: node.table, direction }, tuple, add);
}
