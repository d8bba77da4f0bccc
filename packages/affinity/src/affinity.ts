// SPDX-License-Identifier: Apache-2.0
// Flow affinity: look-or-create, look-up, re-pin, refresh and end of one-key records.
import { decodeFlowRecord, encodeFlowRecord, type FlowRecord } from '@detour/contracts';
import type { Log } from '@detour/core';
import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { type Answer, Link, type RedisLink } from './link.js';
import { inOneGo } from './one-go.js';

export interface AffinitySpec {
  /** `unix:/path` or `redis://host:port`. */
  readonly url: string;
  readonly log: Log;
  /** Milliseconds for a look-up or write of single flows (default 10). */
  readonly budgetMs?: number;
  /** Milliseconds for each 1,000 keys of a refresh (default 250). */
  readonly refreshBudgetMs?: number;
}

export interface PinRequest {
  readonly key: string;
  readonly record: FlowRecord;
  readonly ttlS: number;
}

export interface CallOptions {
  /** Instead of the budget for single flows: for work that no packet waits for. */
  readonly budgetMs?: number;
}

export interface Pin {
  /** What is recorded now. */
  readonly record: FlowRecord;
  readonly created: boolean;
}

export interface AffinityCounters {
  readonly ops: number; // keys asked about or written
  readonly errors: number; // of these: no connection, silent, refused
  readonly timeouts: number; // of these: no answer within the budget
  readonly conflicts: number; // re-pins that found another generation or a better pin
  readonly unrecorded: number; // pins that a caller had to go on without recording
  readonly corrupt: number; // values that were no record
}

export interface Affinity extends AsyncDisposable {
  readonly connected: boolean;
  readonly counters: AffinityCounters;
  onConnectionChange(listener: (connected: boolean) => void): () => void;
  /** What is recorded under each key, which is ours where nothing was (SET NX GET EX). */
  lookOrCreate(requests: readonly PinRequest[], options?: CallOptions): Promise<Answer<Pin[]>>;
  lookUp(keys: readonly string[]): Promise<Answer<(FlowRecord | null)[]>>;
  /** Replaces a pin of generation `expectedGen` by one that wins over it, or writes where there is none. */
  repin(
    request: PinRequest & { readonly expectedGen: number },
    options?: CallOptions,
  ): Promise<Answer<{ record: FlowRecord; written: boolean }>>;
  /** Extends the expiry; never writes a pin. */
  refresh(
    entries: readonly { key: string; ttlS: number }[],
  ): Promise<Answer<{ refreshed: number; missing: string[] }>>;
  /** Removes the pins of flows that have ended; how many there were. A gateway that still uses one records it anew. */
  end(keys: readonly string[]): Promise<Answer<number>>;
}

const REFRESH_CHUNK = 1_000;

/** Connects in the background and returns at once. */
export function openAffinity(spec: AffinitySpec): Affinity {
  const { budgetMs = 10, refreshBudgetMs = 250 } = spec;
  const link = new Link(spec.url, spec.log);
  let conflicts = 0;
  let unrecorded = 0;
  let corrupt = 0;

  const take = async (redis: RedisLink, request: PinRequest, held: string | null): Promise<Pin> => {
    const { key, record, ttlS } = request;
    if (held === null) return { record, created: true };
    const before = decodeFlowRecord(held);
    if (before !== null) return { record: before, created: false };
    corrupt += 1;
    await redis.set(key, encodeFlowRecord(record), 'EX', ttlS);
    return { record, created: true };
  };
  const setAll = async (redis: RedisLink, requests: readonly PinRequest[]): Promise<Pin[]> => {
    const held = await inOneGo(redis, requests, (to, { key, record, ttlS }) =>
      to.set(key, encodeFlowRecord(record), 'EX', ttlS, 'NX', 'GET'),
    );
    const pins: Pin[] = [];
    for (const [i, request] of requests.entries()) {
      const text = held[i] ?? null;
      pins.push(text === null ? { record: request.record, created: true } : await take(redis, request, text));
    }
    return pins;
  };
  const readOne = (held: string | null): FlowRecord | null => {
    if (held === null) return null;
    const record = decodeFlowRecord(held);
    if (record === null) corrupt += 1;
    return record;
  };
  const refreshChunk = async (redis: RedisLink, chunk: readonly { key: string; ttlS: number }[]) => {
    const extended = await Promise.all(chunk.map(({ key, ttlS }) => redis.expire(key, ttlS, 'GT')));
    const unsure = chunk.filter((_, i) => extended[i] !== 1).map(({ key }) => key);
    const there = await Promise.all(unsure.map((key) => redis.exists(key)));
    return unsure.filter((_, i) => there[i] !== 1);
  };

  return {
    get connected() {
      return link.connected;
    },
    get counters() {
      return { ...link.counters, conflicts, unrecorded, corrupt };
    },
    onConnectionChange: (listener) => link.onConnectionChange(listener),
    lookOrCreate: async (requests, options = {}) => {
      const answer = await traced('redis look-or-create', () =>
        link.run(requests.length, options.budgetMs ?? budgetMs, (redis) => setAll(redis, requests)),
      );
      if (!answer.ok) unrecorded += requests.length;
      return answer;
    },
    lookUp: (keys) =>
      traced('redis look-up', () =>
        link.run(keys.length, budgetMs, async (redis) =>
          (await inOneGo(redis, keys, (to, key) => to.get(key))).map(readOne),
        ),
      ),
    repin: async ({ key, record, ttlS, expectedGen }, options = {}) => {
      const answer = await traced('redis re-pin', () =>
        link.run(1, options.budgetMs ?? budgetMs, (redis) =>
          redis.detourRepin(key, encodeFlowRecord(record), ttlS, expectedGen, record.gen, record.path),
        ),
      );
      if (!answer.ok) {
        unrecorded += 1;
        return answer;
      }
      const held = readOne(answer.value);
      if (held === null) return { ok: true, value: { record, written: true } };
      conflicts += 1;
      return { ok: true, value: { record: held, written: false } };
    },
    refresh: async (entries) => {
      const missing: string[] = [];
      for (let i = 0; i < entries.length; i += REFRESH_CHUNK) {
        const chunk = entries.slice(i, i + REFRESH_CHUNK);
        const answer = await link.run(chunk.length, refreshBudgetMs, (redis) => refreshChunk(redis, chunk));
        if (!answer.ok) return answer;
        missing.push(...answer.value);
      }
      return { ok: true, value: { refreshed: entries.length - missing.length, missing } };
    },
    end: async (keys) => {
      let ended = 0;
      for (let i = 0; i < keys.length; i += REFRESH_CHUNK) {
        const chunk = keys.slice(i, i + REFRESH_CHUNK);
        const answer = await link.run(chunk.length, refreshBudgetMs, async (redis) => {
          const removed = await Promise.all(chunk.map((key) => redis.unlink(key)));
          return removed.reduce((sum, one) => sum + one, 0);
        });
        if (!answer.ok) return answer;
        ended += answer.value;
      }
      return { ok: true, value: ended };
    },
    [Symbol.asyncDispose]: () => link[Symbol.asyncDispose](),
  };
}

/** A span around `work` if it belongs to a trace that is sampled; never a new trace. */
async function traced<T>(name: string, work: () => Promise<Answer<T>>): Promise<Answer<T>> {
  if (trace.getActiveSpan()?.isRecording() !== true) return work();
  const span = trace.getTracer('@detour/affinity').startSpan(name, { kind: SpanKind.CLIENT });
  const answer = await work();
  if (!answer.ok) span.setStatus({ code: SpanStatusCode.ERROR, message: answer.why });
  span.end();
  return answer;
}
