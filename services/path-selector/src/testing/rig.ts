// SPDX-License-Identifier: Apache-2.0
// A real nats-server, a real redis-server, and selectors on them, each with a gateway's table stream and a way to ask.
import { type Bus, connectBus, type IntentStore, openIntentStore, openState, type State } from '@detour/bus';
import {
  type ChainRow,
  PathSelectorClient,
  type SelectAnswer,
  type SelectAnswers,
  type SelectBatch,
  type SelectQuestion,
  stateKey,
} from '@detour/contracts';
import { PROTO, parseAddress, silentLog, type Tuple } from '@detour/core';
import { openStream, QuestionStream, TableStream } from '@detour/rpc';
import { ResourceStack } from '@detour/runtime';
import { digestChains, validateChains } from '@detour/tables';
import {
  applyRevision,
  hostService,
  type NatsServer,
  type RedisServer,
  revisionOf,
  startNats,
  startRedis,
  until,
} from '@detour/testkit';
import { metrics } from '@opentelemetry/api';
import { settings } from '../config.js';
import { exampleText } from '../testdata.js';
import { wirePathSelector } from '../wire.js';

const bytes = (text: string) => parseAddress(text) ?? new Uint8Array();

/** Integer weights of the first chain's paths. */
export const weights = (rows: readonly ChainRow[]) => rows[0]?.paths.map(({ weight }) => weight);

/** Starts the servers; closes them and all that was started on them when disposed. */
export async function startRig() {
  const resources = new ResourceStack();
  const [nats, redis] = await Promise.all([startNats(), startRedis()]);
  resources.use(nats);
  resources.use(redis);
  const { signal } = new AbortController();
  const bus = resources.use(connectBus({ servers: [nats.url], name: 'test', signal, log: silentLog }));
  await bus.whenConnected();
  return new Rig(resources, { nats, redis, bus, state: openState(bus), store: openIntentStore(bus) });
}

interface Servers {
  readonly nats: NatsServer;
  readonly redis: RedisServer;
  readonly bus: Bus;
  readonly state: State;
  readonly store: IntentStore;
}

export class Rig implements AsyncDisposable {
  #revision = 0;
  #nextPort = 1000;

  constructor(
    readonly resources: ResourceStack,
    readonly on: Servers,
  ) {}

  /** A flow that no test has used. */
  readonly newFlow = (): Tuple => ({
    ...{ vrf: 1, src: bytes('10.1.0.1'), dst: bytes('203.0.113.9') },
    ...{ sport: this.#nextPort++, dport: 443, proto: PROTO.tcp },
  });

  /** Puts a document into force, as the next revision. */
  readonly apply = async (firewalls: readonly string[], chain = '') => {
    this.#revision++;
    const made = revisionOf(exampleText({ firewalls, chain }), { revision: this.#revision });
    await applyRevision(this.on, made);
    return made;
  };

  readonly score = (node: string, value: number, fresh = true) =>
    this.on.state.put(stateKey.score(node), { score: value, fresh, why: '', atMs: 0 });
  readonly health = (gateway: string, node: string, what: string) =>
    this.on.state.put(stateKey.health(gateway, node, ''), { state: what, source: 'bfd', why: '', atMs: 0 });
  readonly drain = (node: string, draining: boolean) =>
    this.on.state.put(stateKey.drain(node), { draining, by: 'test', atMs: 0 });

  /** One selector with a gateway's table stream and a way to ask; all closed by the test. */
  readonly startSelector = async (
    instance: string,
    gateway = 'edge1',
    redisUrl: string = this.on.redis.url,
  ) => {
    const { nats } = this.on;
    const own = new ResourceStack();
    const hosted = own.use(
      await hostService({
        name: 'path-selector',
        settings,
        wire: (ctx) => wirePathSelector(ctx, metrics.getMeter('test')),
        env: {
          DETOUR_NATS: nats.url,
          DETOUR_REDIS: redisUrl,
          DETOUR_INSTANCE: instance,
          DETOUR_REDIS_BUDGET: '200ms',
        },
      }),
    );
    const { address } = hosted.parts;
    const updates: number[] = [];
    const table = own.use(
      new TableStream<ChainRow>({
        ...{
          name: 'paths',
          key: gateway,
          gateway,
          instances: () => [address],
          log: silentLog,
          digest: digestChains,
        },
        open: (to) => openStream(PathSelectorClient, to, (client) => client.watchPaths()),
        validate: (rows) => validateChains(rows),
        apply: async ({ upserts }) => {
          updates.push(upserts.length);
          return { ok: true };
        },
      }),
    );
    const questions = own.use(
      new QuestionStream<SelectQuestion, SelectAnswer, SelectBatch, SelectAnswers>({
        ...{ name: 'select', key: gateway, instances: () => [address], log: silentLog, timeoutMs: 5_000 },
        open: (to) => openStream(PathSelectorClient, to, (client) => client.selectPath()),
        pack: (batch) => ({ questions: batch }),
        unpack: (batch) => batch.answers,
      }),
    );
    const ask = (tuple: Tuple, more: Partial<SelectQuestion> = {}) =>
      questions.ask({
        ...{ traceparent: '', gateway, tuple, chain: 1, rule: 1, midflow: false, preferred: 0 },
        ...more,
      });
    const live = (revision: number) => until(() => table.version?.revision === revision);
    return { hosted, table, updates, ask, live, [Symbol.asyncDispose]: () => own[Symbol.asyncDispose]() };
  };

  [Symbol.asyncDispose](): Promise<void> {
    return this.resources[Symbol.asyncDispose]();
  }
}
