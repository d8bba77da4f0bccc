// SPDX-License-Identifier: Apache-2.0
/**
 * A path-selector between the gateway and the real one, that can alter a row of what passes: tables go through as they are until it is told
 * otherwise. Questions about single flows it answers with an error, so that the gateway decides from the table that it holds.
 * In: one argument, RelayConfig as JSON; requests `alter`, `acks`, `watchers` on standard input. Out: their answers on standard output.
 * The digest of an altered table fits its rows, so that nothing but the row itself can be what is refused.
 */
import { createInterface } from 'node:readline';
import { connectBus, openState, registerInstance } from '@detour/bus';
import {
  type ChainRow,
  PathSelectorClient,
  PathSelectorService,
  type PathUpdate,
  SelectAnswer,
  type SelectAnswers,
  type SelectBatch,
  type WatchRequest,
} from '@detour/contracts';
import { silentLog, systemClock } from '@detour/core';
import { implement, type OpenStream, openStream, serve } from '@detour/rpc';
import { applyDelta, digestChains } from '@detour/tables';
import { Metadata, type ServerDuplexStream } from '@grpc/grpc-js';
import { type Alteration, alterRows } from './alter-rows.js';

export interface RelayConfig {
  readonly nats: string;
  readonly listen: string;
  readonly upstream: string;
}

/** What the gateway said to an update. */
export interface RelayedAck {
  readonly altered: Alteration | null;
  readonly error: string;
  readonly row: string;
}

const RETRY_MS = 50;
const config = JSON.parse(process.argv[2] ?? '') as RelayConfig;
const life = new AbortController();
const acks: RelayedAck[] = [];
let alteration: Alteration | null = null;
let watchers = 0;

/** Carries one stream to the real path-selector; while that is away it is tried again, and the gateway waits. */
function watchPaths(down: ServerDuplexStream<WatchRequest, PathUpdate>): void {
  watchers++;
  let held: readonly ChainRow[] = [];
  let offered: { rows: readonly ChainRow[]; altered: Alteration | null } | null = null;
  let hello: WatchRequest | null = null;
  let up: OpenStream<WatchRequest, PathUpdate> | null = null;
  let ended = false;

  const pass = (update: PathUpdate): PathUpdate => {
    const rows = applyDelta(held, update);
    offered = { rows, altered: alteration };
    if (alteration === null) return update;
    const altered = alterRows(rows, alteration);
    return { ...update, full: true, upserts: [...altered], removes: [], digest: digestChains(altered) };
  };
  const connect = (): void => {
    if (ended || hello === null) return;
    const stream = openStream(PathSelectorClient, config.upstream, (client) => client.watchPaths());
    up = stream;
    let answered = false;
    stream.call.write(hello);
    stream.call.on('metadata', () => {
      answered = true;
    });
    stream.call.on('data', (update: PathUpdate) => down.write(pass(update)));
    const lost = (): void => {
      if (up !== stream) return;
      up = null;
      stream.close();
      if (answered) down.end();
      else setTimeout(connect, RETRY_MS);
    };
    stream.call.on('error', lost);
    stream.call.on('end', lost);
  };
  down.sendMetadata(new Metadata());
  down.on('data', (request: WatchRequest) => {
    const { ack } = request;
    if (ack !== undefined && offered !== null) {
      acks.push({ altered: offered.altered, error: ack.error, row: ack.row });
      if (ack.error === '') held = offered.rows;
    }
    if (hello === null) {
      hello = request;
      connect();
    } else up?.call.write(request);
  });
  const end = (): void => {
    ended = true;
    const stream = up;
    up = null;
    stream?.close();
    down.end();
  };
  down.on('end', end);
  down.on('cancelled', end);
  down.on('error', end);
}

function refuseQuestions(down: ServerDuplexStream<SelectBatch, SelectAnswers>): void {
  down.sendMetadata(new Metadata());
  down.on('data', ({ questions }: SelectBatch) => {
    const error = 'the relay answers no questions';
    down.write({ answers: questions.map(({ id }) => SelectAnswer.fromPartial({ id, error })) });
  });
  down.on('end', () => down.end());
  down.on('error', () => down.end());
}

const bus = connectBus({ servers: [config.nats], name: 'path-relay', signal: life.signal, log: silentLog });
await bus.whenConnected();
const state = openState(bus);
await using server = await serve({
  address: config.listen,
  log: silentLog,
  services: [
    implement(PathSelectorService, {
      selectPath: refuseQuestions,
      watchPaths,
    }),
  ],
});
await using registration = registerInstance({
  state,
  service: 'path-selector',
  id: 'relay',
  address: server.address,
  metrics: '',
  gateway: '',
  clock: systemClock(),
  log: silentLog,
});
await registration.registered;

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, how } = JSON.parse(line) as { id: number; op: string; how?: Alteration | null };
  if (op === 'alter') alteration = how ?? null;
  const value = op === 'acks' ? acks.splice(0) : op === 'watchers' ? watchers : null;
  process.stdout.write(`${JSON.stringify({ id, ok: true, value })}\n`);
}
life.abort();
