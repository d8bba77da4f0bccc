// SPDX-License-Identifier: Apache-2.0
/** Do both gateways and Redis have one record of each flow? */
import type { FlowRecord, FlowRow, GatewayStatus } from '@detour/contracts';
import { waitFor } from '@detour/lab';
import { trackedFlows } from '../acceptance/node-tally.js';
import { pinsOf, recordsOf } from './flow-records.js';
import { type GatewayPair, gatewayNames } from './pair-of-gateways.js';

export interface Everywhere {
  /** Of each gateway. */
  readonly gateways: readonly ReadonlyMap<string, FlowRow>[];
  /** In Redis. */
  readonly pins: ReadonlyMap<string, FlowRecord>;
  readonly known: readonly string[];
  /** Flows of which each gateway has seen the opening alone: no records, for nobody is told of them. */
  readonly openings: readonly number[];
}

export async function everywhere(pair: GatewayPair, named: readonly string[]): Promise<Everywhere> {
  const every = await Promise.all(gatewayNames.map((gateway) => recordsOf(pair, gateway, named)));
  const gateways = every.map((rows) => new Map([...rows].filter(([, row]) => isRecord(row))));
  const openings = every.map((rows, i) => rows.size - (gateways[i]?.size ?? 0));
  const rows = new Map(gateways.flatMap((records) => [...records]));
  return { gateways, pins: await pinsOf(pair, rows), known: [...rows.keys()], openings };
}

function isRecord({ established, decidedBy }: FlowRow): boolean {
  return established || decidedBy !== 'kernel';
}

/** The paths of each flow, wherever it is known. */
export function pathsOf({ gateways, pins, known }: Everywhere): Map<string, ReadonlySet<number>> {
  return new Map(
    known.map((flow) => {
      const held = [...gateways.map((records) => records.get(flow)), pins.get(flow)];
      return [flow, new Set(held.flatMap((one) => (one === undefined ? [] : [one.path])))];
    }),
  );
}

/** The path that the written rule gives each flow (docs/adr/0008-ends-of-pins.md): that of the higher generation, then the lower one. */
export function winnersOf({ gateways, pins, known }: Everywhere): Map<string, number> {
  return new Map(
    known.map((flow) => {
      const rows = gateways.flatMap((records) => records.get(flow) ?? []);
      const held = rows.map(({ pinGen, path }) => ({ gen: Math.max(1, pinGen), path }));
      const pin = pins.get(flow);
      if (pin !== undefined) held.push(pin);
      const highest = Math.max(...held.map(({ gen }) => gen));
      return [flow, Math.min(...held.filter(({ gen }) => gen === highest).map(({ path }) => path))];
    }),
  );
}

/** Of each flow named, in their order. */
export function paths(
  records: ReadonlyMap<string, { readonly path: number }> | undefined,
  named: readonly string[],
): (number | undefined)[] {
  return named.map((flow) => records?.get(flow)?.path);
}

/** Resolves when both gateways and Redis have one record of each flow that is known. */
export async function awaitAgreement(pair: GatewayPair, named: readonly string[]): Promise<Everywhere> {
  let last = '';
  const agreed = async (): Promise<Everywhere | false> => {
    const now = await everywhere(pair, named);
    const split = [...pathsOf(now)].flatMap(([flow, held]) => (held.size > 1 ? [flow] : []));
    const unpinned = now.known.filter((flow) => !now.pins.has(flow));
    last = `${split.length} of ${now.known.length} contradict, ${unpinned.length} are not in Redis: ${[...split, ...unpinned].slice(0, 3)}`;
    return split.length + unpinned.length === 0 && now;
  };
  const what = 'one record of each flow';
  return await waitFor(agreed, { what, timeoutMs: 25_000, everyMs: 200 }).catch((error: unknown) => {
    throw new Error(last, { cause: error });
  });
}

/**
 * A gateway compares its pins once a minute, and when its connection to Redis is back: so, once all pins that were made without Redis are
 * there, that is closed once.
 */
export async function compareNow(pair: GatewayPair): Promise<void> {
  const all = () => Promise.all(gatewayNames.map((gateway) => pair.at(gateway).status()));
  const isConnected = ({ connected }: GatewayStatus): boolean => connected.redis === true;
  const hasAll = ({ figures }: GatewayStatus): boolean => figures.unrecorded === 0n;
  const wait = { timeoutMs: 20_000, everyMs: 50 };
  const recorded = async () => (await all()).every((status) => isConnected(status) && hasAll(status));
  await waitFor(recorded, { ...wait, what: 'all pins to be in Redis' });
  const socket = pair.stack.redisUrl.slice('unix:'.length);
  await pair.lab.exec('mgmt', ['redis-cli', '-s', socket, 'client', 'kill', 'type', 'normal']);
  await waitFor(async () => (await all()).every(isConnected), { ...wait, what: 'Redis at both gateways' });
}

/** Flows that go another gateway's way since the gateways were started, of both. */
export async function adopted(pair: GatewayPair): Promise<number> {
  const all = await Promise.all(gatewayNames.map((gateway) => pair.at(gateway).status()));
  return all.reduce((sum, { figures }) => sum + Number(figures['redis-adopted'] ?? 0n), 0);
}

/** Flows that more than one node saw. */
export async function seenTwice(
  pair: Pick<GatewayPair, 'lab' | 'firewalls'>,
  named: readonly string[],
): Promise<string[]> {
  const tracked = await trackedFlows(pair);
  return named.filter((flow) => (tracked.get(flow)?.length ?? 0) > 1);
}
