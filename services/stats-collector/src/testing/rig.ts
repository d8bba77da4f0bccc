// SPDX-License-Identifier: Apache-2.0
// A real nats-server, and stats-collectors on it, asked and told over real gRPC.
import {
  type Bus,
  connectBus,
  type IntentStore,
  openIntentStore,
  openState,
  type State,
  type StateMirror,
} from '@detour/bus';
import { type ScoreValue, StatsCollectorClient, stateKey } from '@detour/contracts';
import { type Clock, silentLog } from '@detour/core';
import { callUnary, connectClient } from '@detour/rpc';
import { ResourceStack } from '@detour/runtime';
import { applyRevision, hostService, type NatsServer, revisionOf, startNats, until } from '@detour/testkit';
import { metrics } from '@opentelemetry/api';
import { settings } from '../config.js';
import { readScore } from '../score-publisher.js';
import { wireStatsCollector } from '../wire.js';

const CALL = { deadlineMs: 2_000 } as const;

export interface Told {
  /** Wall clock, ms; default now. */
  readonly atMs?: number;
  /** Whose measurement it is; default the node's own word. */
  readonly gateway?: string;
}

export class StatsRig implements AsyncDisposable {
  readonly #resources = new ResourceStack();
  #revision = 0;

  private constructor(
    readonly nats: NatsServer,
    readonly bus: Bus,
    readonly state: State,
    readonly mirror: StateMirror,
    readonly store: IntentStore,
  ) {}

  static async start(): Promise<StatsRig> {
    const nats = await startNats();
    const { signal } = new AbortController();
    const bus = connectBus({ servers: [nats.url], name: 'test', signal, log: silentLog });
    await bus.whenConnected();
    const state = openState(bus);
    const mirror = state.watch();
    const rig = new StatsRig(nats, bus, state, mirror, openIntentStore(bus));
    for (const one of [nats, bus, mirror]) rig.#resources.use(one);
    return rig;
  }

  /** A replica of a name; `clock`: turned by hand. */
  async startCollector(instance: string, clock?: Clock) {
    const hosted = this.#resources.use(
      await hostService({
        name: 'stats-collector',
        settings,
        wire: (ctx) => wireStatsCollector(ctx, metrics.getMeter('test')),
        env: { DETOUR_NATS: this.nats.url, DETOUR_INSTANCE: instance },
        ...(clock && { clock }),
      }),
    );
    const { client } = this.#resources.use(connectClient(StatsCollectorClient, hosted.parts.address));
    return {
      hosted,
      scores: async (node = '') => (await callUnary(client.getScores.bind(client), { node }, CALL)).scores,
      report: (node: string, attributes: Record<string, number>, told: Told = {}) => {
        const atMs = BigInt(told.atMs ?? Date.now());
        const request = { node, reporter: 'test', gateway: told.gateway ?? '', atMs, attributes };
        return callUnary(client.reportAttributes.bind(client), request, CALL);
      },
      [Symbol.asyncDispose]: () => hosted[Symbol.asyncDispose](),
    };
  }

  /** The next revision. */
  apply(text: string) {
    return applyRevision(this, revisionOf(text, { revision: ++this.#revision }));
  }

  published(node: string): ScoreValue | null {
    return readScore(this.mirror.get(stateKey.score(node))?.value);
  }

  scored(node: string, score: number, fresh = true) {
    return until(() => this.published(node)?.score === score && this.published(node)?.fresh === fresh, {
      what: `score ${score} of ${node}; it is ${this.published(node)?.score}`,
      timeoutMs: 10_000,
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources[Symbol.asyncDispose]();
  }
}
