// SPDX-License-Identifier: Apache-2.0
/** The records that gateways and Redis have of a crowd's flows, by the client's address and port. */
import { decodeFlowRecord, type FlowRecord, type FlowRow, flowRecordKey } from '@detour/contracts';
import { normaliseTuple } from '@detour/core';
import { waitFor } from '@detour/lab';
import { crowdServer } from '../acceptance/crowd.js';
import type { GatewayPair } from './pair-of-gateways.js';

/** Of these flows, as one gateway has them. */
export async function recordsOf(
  pair: Pick<GatewayPair, 'at'>,
  gateway: string,
  named: readonly string[],
): Promise<Map<string, FlowRow>> {
  const wanted = new Set(named);
  const rows = (await pair.at(gateway).flows()).map((row) => [clientOf(row), row] as const);
  return new Map(rows.filter(([flow]) => wanted.has(flow)));
}

/** The same, once each of these flows is decided there. */
export async function awaitRecords(
  pair: Pick<GatewayPair, 'at'>,
  gateway: string,
  named: readonly string[],
): Promise<Map<string, FlowRow>> {
  const all = async (): Promise<Map<string, FlowRow> | false> => {
    const records = await recordsOf(pair, gateway, named);
    return named.every((flow) => (records.get(flow)?.path ?? 0) !== 0) && records;
  };
  return waitFor(all, { what: `${named.length} flows at ${gateway}`, timeoutMs: 20_000, everyMs: 200 });
}

/** What Redis has of these flows. */
export async function pinsOf(
  pair: Pick<GatewayPair, 'lab' | 'stack'>,
  rows: ReadonlyMap<string, FlowRow>,
): Promise<Map<string, FlowRecord>> {
  const asked = [...rows].flatMap(([flow, { tuple }]) =>
    tuple === undefined ? [] : [[flow, flowRecordKey(normaliseTuple(tuple).key)] as const],
  );
  if (asked.length === 0) return new Map();
  const socket = pair.stack.redisUrl.slice('unix:'.length);
  const { stdout } = await pair.lab.exec('mgmt', ['redis-cli', '-s', socket], {
    input: `MGET ${asked.map(([, key]) => key).join(' ')}\n`,
  });
  const held = stdout.trimEnd().split('\n');
  return new Map(
    asked.flatMap(([flow], i) => {
      const record = decodeFlowRecord(held[i] ?? '');
      return record === null ? [] : [[flow, record] as const];
    }),
  );
}

function clientOf({ tuple }: FlowRow): string {
  const fromServer = textOf(tuple?.src) === crowdServer.address;
  return fromServer ? `${textOf(tuple?.dst)}:${tuple?.dport}` : `${textOf(tuple?.src)}:${tuple?.sport}`;
}

function textOf(address: Uint8Array = new Uint8Array()): string {
  return [...address.slice(-4)].join('.');
}
