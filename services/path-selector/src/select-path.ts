// SPDX-License-Identifier: Apache-2.0
/**
 * Per-flow questions: the path that Redis has for the flow, or a new one, recorded.
 *
 * The choice is made first (it costs nothing and is the same on every gateway) and offered to Redis in one operation (SET NX GET EX): what is
 * recorded there already counts. A pin to a path that is down, or of another chain, is replaced by a pin of the next generation; so is one to
 * any path that takes no new flows, when the packet is a SYN: then the pin is of an earlier connection between the same ports. Without
 * an answer from Redis in its budget the choice stands, unrecorded.
 */
import type { Affinity, Answer, Pin, PinRequest } from '@detour/affinity';
import {
  type ChainRow,
  FlowInstruction,
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

interface ChosenFlow extends Flow {
  readonly choice: number;
}

/** Answers in the order of the questions. What they choose is offered to Redis together; what needs more of Redis is a promise of its own. */
export async function selectPaths(
  questions: readonly SelectQuestion[],
  paths: LivePaths,
  pins: Pins,
): Promise<(SelectAnswer | Promise<SelectAnswer>)[]> {
  const offers: PinRequest[] = [];
  const flows = questions.map((question) => {
    const flow = readFlow(question, paths);
    if (typeof flow !== 'string' && flow.choice !== null) offers.push(offerOf(flow, flow.choice));
    return flow;
  });
  const given = (offers.length === 0 ? [] : await pins.lookOrCreate(offers)).values();
  return flows.map((flow, i) => {
    if (typeof flow === 'string')
      return SelectAnswer.fromPartial({ id: questions[i]?.id ?? 0n, error: flow });
    if (flow.choice === null) return findPin(flow, pins);
    const held = given.next().value ?? { ok: false, why: 'Redis gave no reply' };
    return settleOffer({ ...flow, choice: flow.choice }, held, pins);
  });
}

/** One question by itself. */
export async function selectPath(
  question: SelectQuestion,
  paths: LivePaths,
  pins: Pins,
): Promise<SelectAnswer> {
  const [given] = await selectPaths([question], paths, pins);
  return given ?? SelectAnswer.fromPartial({ id: question.id, error: 'no answer was made' });
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
  const { preferred } = question;
  const choice = chain.mayTake(preferred)
    ? preferred
    : choosePath(chain.expanded, key, { initiatorIsB, secret: chain.secret });
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
  const [found] = await pins.lookUp([flow.key]);
  if (found?.ok !== true)
    return answer(flow, 0, { source: PathSource.UNRECORDED, why: `${nothing}; ${found?.why}` });
  const record = found.value;
  if (record !== null && isKept(flow, record)) return pinned(flow, record);
  return answer(flow, 0, { source: PathSource.SELECTED, why: nothing });
}

function offerOf({ key, chain, initiatorIsB, ttlS }: Flow, choice: number): PinRequest {
  return { key, record: { gen: 1, path: choice, chain: chain.row.number, initiatorIsB }, ttlS };
}

/** What is recorded already counts, unless its path is gone. */
function settleOffer(flow: ChosenFlow, given: Answer<Pin>, pins: Pins): SelectAnswer | Promise<SelectAnswer> {
  const { choice } = flow;
  if (!given.ok)
    return answer(flow, choice, { source: PathSource.UNRECORDED, why: `chosen; not recorded: ${given.why}` });
  const pin = given.value;
  if (pin.created)
    return answer(flow, choice, {
      source: PathSource.SELECTED,
      pinGen: 1,
      why: flow.chain.whyChosen(choice),
    });
  return isKept(flow, pin.record) ? pinned(flow, pin.record) : replacePin(flow, pin.record, pins);
}

async function replacePin(flow: ChosenFlow, held: FlowRecord, pins: Pins): Promise<SelectAnswer> {
  // As the datapath does it: a connection in its middle goes on through those of its nodes that are up.
  const heir =
    flow.midflow && held.chain === flow.chain.row.number ? flow.chain.heirOf(held.path) : undefined;
  const choice = heir ?? flow.choice;
  const left = whyLeft(flow, held);
  const { key, record: offered, ttlS } = offerOf(flow, choice);
  const record: FlowRecord = { ...offered, gen: held.gen + 1 };
  const moved = await pins.repin({ key, record, ttlS, expectedGen: held.gen });
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
    why: `${left}; ${flow.chain.whyChosen(choice)}`,
  });
}

/**
 * Whether a recorded pin holds: its path is of this chain and not down, or the chain keeps flows of nodes that are down. For a
 * connection that begins now only a path that takes new flows will do.
 */
function isKept({ chain, midflow }: Flow, record: FlowRecord): boolean {
  if (record.chain !== chain.row.number) return false;
  if (record.programmed !== undefined) return midflow; // of no connection that begins, and no node needs to be up for it
  const state = chain.stateOf(record.path);
  if (state === undefined) return false;
  if (!midflow) return chain.mayTake(record.path);
  return state !== 'down' || chain.keepsFlowsOfDownNodes;
}

function whyLeft({ chain }: Flow, record: FlowRecord): string {
  if (record.chain !== chain.row.number) return `was pinned to path ${record.path} of chain ${record.chain}`;
  if (chain.stateOf(record.path) === undefined) return `was pinned to path ${record.path}, which is no more`;
  if (record.programmed !== undefined)
    return `an ended connection was pinned to path ${record.path}, and a node had said what becomes of it`;
  const notUp = chain.notUp(record.path);
  if (chain.stateOf(record.path) === 'down')
    return `was pinned to path ${record.path}, which is down (${notUp})`;
  return `an ended connection was pinned to path ${record.path}, which takes no new ones (${notUp === '' ? 'weight 0' : notUp})`;
}

function pinned(flow: Flow, record: FlowRecord): SelectAnswer {
  const notUp = flow.chain.notUp(record.path);
  const { path, gen, programmed } = record;
  const said = programmed === undefined ? undefined : SAID[programmed];
  const why = `pinned to path ${path}${notUp === '' ? '' : `, kept though ${notUp}`}${said === undefined ? '' : ', and a node has said what becomes of it'}`;
  return answer(flow, path, {
    source: PathSource.PINNED,
    pinGen: gen,
    why,
    ...(said === undefined ? {} : { said }),
  });
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
    said = FlowInstruction.UNSPECIFIED,
  }: {
    readonly source: PathSource;
    readonly pinGen?: number;
    readonly why: string;
    readonly said?: FlowInstruction;
  },
): SelectAnswer {
  return SelectAnswer.fromPartial({ id, version: chain.version, path, pinGen, source, why, said });
}

const SAID = { allow: FlowInstruction.SKIP_ALL, drop: FlowInstruction.DROP } as const;

/** `source:port > destination:port protocol` for spans. */
export function describeFlow({ tuple }: SelectQuestion): string {
  if (tuple === undefined || tuple.src.length !== 16 || tuple.dst.length !== 16) return 'no flow';
  return `${formatAddress(tuple.src)}:${tuple.sport} > ${formatAddress(tuple.dst)}:${tuple.dport} protocol ${tuple.proto}`;
}
