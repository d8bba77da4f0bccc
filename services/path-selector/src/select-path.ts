// SPDX-License-Identifier: Apache-2.0
/**
 * One per-flow question: the path that Redis has for the flow, or a new one, recorded.
 *
 * The choice is made first (it costs nothing and is the same on every gateway) and offered to Redis in one operation (SET NX GET EX): what is
 * recorded there already counts. A pin to a path that is down, or of another chain, is replaced by a pin of the next generation; so is one to
 * any path that takes no new flows, when the packet is a SYN: then the pin is of an earlier connection between the same ports. Without
 * an answer from Redis in its budget the choice stands, unrecorded.
 */
import type { Affinity } from '@detour/affinity';
import {
  type ChainRow,
  type FlowRecord,
  flowRecordKey,
  PathSource,
  SelectAnswer,
  type SelectQuestion,
} from '@detour/contracts';
import { type FlowKey, formatAddress, normaliseTuple, PROTO } from '@detour/core';
import { choosePath } from '@detour/tables';
import type { LiveChain, LivePaths } from './live-paths.js';

/** The part of Redis affinity that questions need. */
export type Pins = Pick<Affinity, 'lookOrCreate' | 'lookUp' | 'repin'>;

interface Flow {
  readonly id: bigint;
  readonly key: string;
  readonly chain: LiveChain;
  readonly initiatorIsB: boolean;
  /** It may have begun before this packet, and its pin is its own. */
  readonly midflow: boolean;
  readonly ttlS: number;
  /** null: no path can be chosen now. */
  readonly choice: number | null;
}

export async function selectPath(
  question: SelectQuestion,
  paths: LivePaths,
  pins: Pins,
): Promise<SelectAnswer> {
  const flow = readFlow(question, paths);
  if (typeof flow === 'string') return SelectAnswer.fromPartial({ id: question.id, error: flow });
  return flow.choice === null ? findPin(flow, pins) : offerPin(flow, flow.choice, pins);
}

/** The question as a flow of a chain, or the sentence that refuses it. */
function readFlow(question: SelectQuestion, paths: LivePaths): Flow | string {
  const { id, tuple, gateway, midflow } = question;
  if (tuple === undefined) return `question ${id} has no tuple`;
  if (tuple.src.length !== 16 || tuple.dst.length !== 16)
    return `question ${id} has addresses of ${tuple.src.length} and ${tuple.dst.length} bytes; 16 are needed`;
  const { vrf, sport, dport, proto } = tuple;
  if (vrf > 0xffff || sport > 0xffff || dport > 0xffff || proto > 0xff)
    return `question ${id} has VRF ${vrf}, ports ${sport}, ${dport} and protocol ${proto}, beyond what a packet can hold`;
  const chain = paths.chainOf(gateway, question.chain);
  if (typeof chain === 'string') return chain;
  const { key, norm } = normaliseTuple(tuple);
  const initiatorIsB = norm === 1;
  const choice = choosePath(chain.expanded, key, { initiatorIsB, secret: chain.secret });
  const ttlS = idleSeconds(chain.row, key);
  return { id, key: flowRecordKey(key), chain, initiatorIsB, midflow, ttlS, choice };
}

/** The chain's idle timeout for the flow's protocol: how long a pin outlives the flow's last packet. */
function idleSeconds(row: ChainRow, key: FlowKey): number {
  const ms =
    key.proto === PROTO.tcp ? row.idleTcpMs : key.proto === PROTO.udp ? row.idleUdpMs : row.idleOtherMs;
  return Math.max(1, Math.ceil(Number(ms) / 1000));
}

/** No path is up: a pin may still name one that takes no new flows but keeps its own (drained, or of unknown health). */
async function findPin(flow: Flow, pins: Pins): Promise<SelectAnswer> {
  const nothing = `chain ${flow.chain.row.name}: no path takes new flows${reasons(flow.chain)}`;
  const found = await pins.lookUp([flow.key]);
  if (!found.ok) return answer(flow, 0, { source: PathSource.UNRECORDED, why: `${nothing}; ${found.why}` });
  const record = found.value[0] ?? null;
  if (record !== null && isKept(flow, record)) return pinned(flow, record);
  return answer(flow, 0, { source: PathSource.SELECTED, why: nothing });
}

/** Offers the choice to Redis; what is recorded already counts, unless its path is gone. */
async function offerPin(flow: Flow, choice: number, pins: Pins): Promise<SelectAnswer> {
  const offered: FlowRecord = {
    gen: 1,
    path: choice,
    chain: flow.chain.row.number,
    initiatorIsB: flow.initiatorIsB,
  };
  const { key, ttlS } = flow;
  const given = await pins.lookOrCreate([{ key, record: offered, ttlS }]);
  if (!given.ok)
    return answer(flow, choice, { source: PathSource.UNRECORDED, why: `chosen; not recorded: ${given.why}` });
  const pin = given.value[0];
  if (pin === undefined || pin.created)
    return answer(flow, choice, { source: PathSource.SELECTED, pinGen: 1, why: chosen(flow, choice) });
  if (isKept(flow, pin.record)) return pinned(flow, pin.record);
  const left = whyLeft(flow, pin.record);
  const record: FlowRecord = { ...offered, gen: pin.record.gen + 1 };
  const moved = await pins.repin({ key, record, ttlS, expectedGen: pin.record.gen });
  if (!moved.ok)
    return answer(flow, choice, {
      source: PathSource.UNRECORDED,
      why: `${left}; not recorded: ${moved.why}`,
    });
  const { record: now, written } = moved.value;
  if (!written && isKept(flow, now)) return pinned(flow, now);
  if (!written)
    return answer(flow, choice, {
      source: PathSource.UNRECORDED,
      why: `${left}; another gateway re-pinned it at the same time to path ${now.path}, which is not up here`,
    });
  return answer(flow, choice, {
    source: PathSource.REPINNED,
    pinGen: now.gen,
    why: `${left}; ${chosen(flow, choice)}`,
  });
}

/**
 * Whether a recorded pin holds: its path is of this chain and not down, or the chain keeps flows of nodes that are down. For a
 * connection that begins now only a path that takes new flows will do.
 */
function isKept({ chain, midflow }: Flow, record: FlowRecord): boolean {
  if (record.chain !== chain.row.number) return false;
  const state = chain.stateOf(record.path);
  if (state === undefined) return false;
  if (!midflow) return chain.takesNewFlows(record.path);
  return state !== 'down' || chain.keepsFlowsOfDownNodes;
}

function whyLeft({ chain }: Flow, record: FlowRecord): string {
  if (record.chain !== chain.row.number) return `was pinned to path ${record.path} of chain ${record.chain}`;
  if (chain.stateOf(record.path) === undefined) return `was pinned to path ${record.path}, which is no more`;
  const notUp = chain.notUp(record.path);
  if (chain.stateOf(record.path) === 'down')
    return `was pinned to path ${record.path}, which is down (${notUp})`;
  return `an ended connection was pinned to path ${record.path}, which takes no new ones (${notUp === '' ? 'weight 0' : notUp})`;
}

function pinned(flow: Flow, record: FlowRecord): SelectAnswer {
  const notUp = flow.chain.notUp(record.path);
  const why = `pinned to path ${record.path}${notUp === '' ? '' : `, kept though ${notUp}`}`;
  return answer(flow, record.path, { source: PathSource.PINNED, pinGen: record.gen, why });
}

function chosen({ chain }: Flow, path: number): string {
  const { expanded } = chain;
  const weight = expanded.paths.find((one) => one.path === path)?.weight ?? 0;
  const total = expanded.paths.reduce((sum, one) => sum + one.weight, 0);
  return `path ${path} of chain ${chain.row.name}, weight ${weight} of ${total}${expanded.allStale ? ' by declared capacity: no score is fresh' : ''}`;
}

function reasons(chain: LiveChain): string {
  const notUp = chain.expanded.paths.map(({ path }) => chain.notUp(path)).filter((text) => text !== '');
  return notUp.length === 0 ? '' : ` (${notUp.slice(0, 4).join(', ')}${notUp.length > 4 ? ' …' : ''})`;
}

function answer(
  { id, chain }: Flow,
  path: number,
  {
    source,
    pinGen = 0,
    why,
  }: { readonly source: PathSource; readonly pinGen?: number; readonly why: string },
): SelectAnswer {
  return SelectAnswer.fromPartial({ id, version: chain.version, path, pinGen, source, why });
}

/** `source:port > destination:port protocol` for spans. */
export function describeFlow({ tuple }: SelectQuestion): string {
  if (tuple === undefined || tuple.src.length !== 16 || tuple.dst.length !== 16) return 'no flow';
  return `${formatAddress(tuple.src)}:${tuple.sport} > ${formatAddress(tuple.dst)}:${tuple.dport} protocol ${tuple.proto}`;
}
