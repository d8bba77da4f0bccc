// SPDX-License-Identifier: Apache-2.0
// Flow affinity: look-or-create, look-up, re-pin, refresh and end of one-key records.
import { decodeFlowRecord, encodeFlowRecord, type FlowRecord } from '@detour/contracts';
import type { Log } from '@detour/core';
import { type Claims, openClaims } from './claims.js';
import { type Answer, Link } from './link.js';
import { REPIN_SHA, type Reply } from './one-go.js';
import { traced } from './traced.js';

export interface AffinitySpec {
  /** Where Redis is, as `parseRedisTarget` of `@detour/core` takes it: one server, sentinels or a cluster. */
  readonly url: string;
  readonly log: Log;
  /** Milliseconds for a look-up or write of single flows (default 10). */
  readonly budgetMs?: number;
  /** Milliseconds for each 1,000 keys of a refresh (default 2,000); no packet waits for it. */
  readonly refreshBudgetMs?: number;
}

export interface PinRequest {
  readonly key: string;
  readonly record: FlowRecord;
  readonly ttlS: number;
}

export interface RepinRequest extends PinRequest {
  readonly expectedGen: number;
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
  readonly ops: number; // commands asked for
  readonly errors: number; // of these: no connection, silent, refused
  readonly timeouts: number; // of these: no answer within the budget
  readonly conflicts: number; // re-pins that found another generation or a better pin
  readonly unrecorded: number; // pins that a caller had to go on without recording
  readonly corrupt: number; // values that were no record
}

/** What a refresh has found of each key. */
export interface Refreshed {
  readonly held: ReadonlyMap<string, FlowRecord>;
  /** Redis has no pin under these. */
  readonly missing: readonly string[];
  /** Not asked or not answered: these expire unless they are refreshed again. */
  readonly failed: readonly string[];
}

export interface Affinity extends AsyncDisposable {
  /** All of its servers answer. */
  readonly connected: boolean;
  /** What Redis refuses writes with (full, read-only, …); null: it does not. */
  readonly refuses: string | null;
  readonly counters: AffinityCounters;
  readonly claims: Claims;
  /** Told when Redis is lost, or was silent or late for a second, with why; and when all of it is in order again. */
  onConnectionChange(listener: (connected: boolean, why: string) => void): () => void;
  onRefusalChange(listener: (why: string | null) => void): () => void;
  /** What is recorded under each key, which is ours where nothing was (SET NX GET EX). */
  lookOrCreate(requests: readonly PinRequest[], options?: CallOptions): Promise<Answer<Pin>[]>;
  lookUp(keys: readonly string[]): Promise<Answer<FlowRecord | null>[]>;
  /** Replaces a pin of generation `expectedGen` by one that wins over it, or writes where there is none. */
  repin(
    request: RepinRequest,
    options?: CallOptions,
  ): Promise<Answer<{ record: FlowRecord; written: boolean }>>;
  /** Extends the expiry, and says what is recorded; never writes a pin. */
  refresh(entries: readonly { key: string; ttlS: number }[]): Promise<Refreshed>;
  /** Removes the pins of flows that have ended. A gateway that still uses one records it anew; one that is missed expires by itself. */
  end(keys: readonly string[]): Promise<{ ended: number; failed: number }>;
}

const CHUNK = 1_000;
const keyOf = ({ key }: { readonly key: string }) => key;

/** Connects in the background and returns at once. @throws Fault `invalid` when `url` cannot be read */
export function openAffinity(spec: AffinitySpec): Affinity {
  const { budgetMs = 10, refreshBudgetMs = 2_000 } = spec;
  const link = new Link(spec.url, spec.log);
  const { servers } = link;
  let conflicts = 0;
  let unrecorded = 0;
  let corrupt = 0;

  const readOne = (held: Reply): FlowRecord | null => {
    if (typeof held !== 'string') return null;
    const record = decodeFlowRecord(held);
    if (record === null) corrupt += 1;
    return record;
  };
  const repinAll = (requests: readonly RepinRequest[], withinMs: number) =>
    link.each(requests, {
      ...{ budgetMs: withinMs, writes: true, keyOf },
      command: (to, { key, record, ttlS, expectedGen }) =>
        to.evalsha(REPIN_SHA, 1, key, encodeFlowRecord(record), ttlS, expectedGen),
      read: (reply, { record }) => {
        const held = readOne(reply);
        return { record: held ?? record, written: held === null };
      },
    });
  const readAll = (keys: readonly string[], withinMs: number) =>
    link.each(keys, {
      ...{ budgetMs: withinMs, writes: false, read: readOne },
      keyOf: (key) => key,
      command: (to, key) => to.get(key),
    });
  const createAll = async (requests: readonly PinRequest[], withinMs: number): Promise<Answer<Pin>[]> => {
    const beganMs = performance.now();
    const unreadable = new Set<PinRequest>();
    const pins = await link.each(requests, {
      ...{ budgetMs: withinMs, writes: true, keyOf },
      command: (to, { key, record, ttlS }) => to.set(key, encodeFlowRecord(record), 'EX', ttlS, 'NX', 'GET'),
      read: (reply, request): Pin => {
        if (reply === null) return { record: request.record, created: true };
        const record = readOne(reply);
        if (record === null) unreadable.add(request);
        return { record: record ?? request.record, created: record === null };
      },
    });
    const leftMs = Math.max(1, beganMs + withinMs - performance.now());
    const again = async (i: number, request: PinRequest): Promise<void> => {
      const pin = pins[i];
      if (pin?.ok === false && pin.refused === true) {
        // Full or read-only: what is there still counts.
        const [held] = await readAll([request.key], leftMs);
        if (held?.ok === true && held.value !== null)
          pins[i] = { ok: true, value: { record: held.value, created: false } };
      } else if (unreadable.has(request)) {
        // The script replaces what is no record, for one of all who find it.
        const [now] = await repinAll([{ ...request, expectedGen: 0 }], leftMs);
        if (now !== undefined)
          pins[i] = now.ok
            ? { ok: true, value: { record: now.value.record, created: now.value.written } }
            : now;
      }
    };
    if (unreadable.size > 0 || pins.some((pin) => !pin.ok && pin.refused === true))
      await Promise.all(requests.map((request, i) => again(i, request)));
    return pins;
  };

  return {
    get connected() {
      return servers.connected;
    },
    get refuses() {
      return servers.refuses;
    },
    get counters() {
      return { ...link.counters, conflicts, unrecorded, corrupt };
    },
    claims: openClaims(link),
    onConnectionChange: (listener) => servers.onConnectionChange(listener),
    onRefusalChange: (listener) => servers.onRefusalChange(listener),
    lookOrCreate: async (requests, options = {}) => {
      const pins = await traced('redis look-or-create', () =>
        createAll(requests, options.budgetMs ?? budgetMs),
      );
      for (const pin of pins) if (!pin.ok) unrecorded += 1;
      return pins;
    },
    lookUp: (keys) => traced('redis look-up', () => readAll(keys, budgetMs)),
    repin: async (request, options = {}) => {
      const [answer] = await traced('redis re-pin', () => repinAll([request], options.budgetMs ?? budgetMs));
      if (answer?.ok !== true) unrecorded += 1;
      else if (!answer.value.written) conflicts += 1;
      return answer ?? { ok: false, why: 'Redis gave no reply' };
    },
    refresh: async (entries) => {
      const held = new Map<string, FlowRecord>();
      const missing: string[] = [];
      const failed: string[] = [];
      for (let i = 0; i < entries.length; i += CHUNK) {
        const chunk = entries.slice(i, i + CHUNK);
        const steps = chunk.flatMap(({ key, ttlS }): RefreshStep[] => [
          { key, ttlS },
          { key, ttlS: null },
        ]);
        const answers = await link.each(steps, {
          ...{ budgetMs: refreshBudgetMs, writes: false, keyOf },
          command: (to, { key, ttlS }) => (ttlS === null ? to.get(key) : to.expire(key, ttlS, 'GT')),
          read: (reply) => readOne(reply),
        });
        for (const [at, { key }] of chunk.entries()) {
          const [extended, read] = answers.slice(2 * at);
          if (extended?.ok !== true || read?.ok !== true) failed.push(key);
          else if (read.value === null) missing.push(key);
          else held.set(key, read.value);
        }
      }
      return { held, missing, failed };
    },
    end: async (keys) => {
      let ended = 0;
      let failed = 0;
      for (let i = 0; i < keys.length; i += CHUNK) {
        const answers = await link.each(keys.slice(i, i + CHUNK), {
          ...{ budgetMs: refreshBudgetMs, writes: false },
          keyOf: (key) => key,
          command: (to, key) => to.unlink(key),
          read: (removed) => (removed === 1 ? 1 : 0),
        });
        for (const answer of answers) {
          if (answer.ok) ended += answer.value;
          else failed += 1;
        }
      }
      return { ended, failed };
    },
    [Symbol.asyncDispose]: () => link[Symbol.asyncDispose](),
  };
}

interface RefreshStep {
  readonly key: string;
  /** Seconds; null: say what is recorded. */
  readonly ttlS: number | null;
}
