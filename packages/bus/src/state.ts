// SPDX-License-Identifier: Apache-2.0
// The state bucket: small last-value-wins JSON values whose revisions come from one stream sequence.
import { STATE_BUCKET } from '@detour/contracts';
import { Fault } from '@detour/core';
import { type JetStreamManager, jetstream } from '@nats-io/jetstream';
import { type KV, type KvEntry, Kvm } from '@nats-io/kv';
import type { Bus } from './connection.js';
import { StateMirror } from './mirror.js';
import { faultOfNats } from './nats-fault.js';

/** One key's last value. `value` is JSON as parsed (undefined when it was none): the caller validates. */
export interface StateEntry {
  readonly key: string;
  readonly value: unknown;
  /** Stream sequence of the write. */
  readonly revision: bigint;
}

/** An open bucket on one connection. */
export interface StateSession {
  readonly kv: KV;
  readonly jsm: JetStreamManager;
  readonly stream: string;
  /** Identity of the bucket: its stream's creation time, as the server gives it. */
  readonly epoch: string;
}

const CALL_TIMEOUT_MS = 2_000;
const MAX_VALUE_BYTES = 64 * 1024;

export interface State {
  readonly bus: Bus;
  /** The open bucket; made when it is missing. @throws Fault `unavailable` | `timeout` */
  session(): Promise<StateSession>;
  /** Forgets the open bucket, so that the next call looks (and makes it) anew. */
  invalidate(): void;
  /** Writes; answers the revision. @throws Fault `unavailable` | `timeout` */
  put(key: string, value: unknown): Promise<bigint>;
  /** Writes only if `key` still has revision `expected` (0n: does not exist). @throws Fault `conflict` | `unavailable` | `timeout` */
  cas(key: string, value: unknown, expected: bigint): Promise<bigint>;
  get(key: string): Promise<StateEntry | null>;
  /** Deletes; a key that does not exist is no error. */
  delete(key: string): Promise<void>;
  /** A mirror of the whole bucket, kept in step until it is disposed. */
  watch(): StateMirror;
}

/** The JSON in `data`, or undefined when it is none. */
export function parseJson(data: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(data));
  } catch {
    return undefined;
  }
}

/** Opens the bucket lazily: returns at once. */
export function openState(bus: Bus): State {
  let opened: Promise<StateSession> | null = null;
  bus.onConnectionChange(() => {
    opened = null;
  });

  const open = async (): Promise<StateSession> => {
    const js = jetstream(bus.connection(), { timeout: CALL_TIMEOUT_MS });
    const kv = await new Kvm(js).create(STATE_BUCKET, { history: 1, maxValueSize: MAX_VALUE_BYTES });
    const status = await kv.status();
    const { config, created } = status.streamInfo;
    return { kv, jsm: await js.jetstreamManager(false), stream: config.name, epoch: String(created) };
  };
  const session = async (): Promise<StateSession> => {
    const mine = opened ?? open();
    opened = mine;
    try {
      return await mine;
    } catch (error) {
      if (opened === mine) opened = null;
      throw faultOfNats('opening the state bucket', error);
    }
  };
  const call = async <T>(doing: string, act: (kv: KV) => Promise<T>): Promise<T> => {
    bus.connection();
    const { kv } = await session();
    try {
      return await act(kv);
    } catch (error) {
      const fault = faultOfNats(doing, error);
      if (fault.code === 'unavailable') opened = null;
      throw fault;
    }
  };
  const text = (key: string, value: unknown) => {
    const json = JSON.stringify(value);
    if (json === undefined) throw new Fault('invalid', `${key}: the value is no JSON`);
    return json;
  };

  const state: State = {
    bus,
    session,
    invalidate: () => {
      opened = null;
    },
    put: (key, value) =>
      call(`writing ${key}`, async (kv) =>
        BigInt(await kv.put(key, text(key, value), { timeout: CALL_TIMEOUT_MS })),
      ),
    cas: (key, value, expected) =>
      call(`writing ${key} at revision ${expected}`, async (kv) =>
        BigInt(
          expected === 0n
            ? await kv.create(key, text(key, value))
            : await kv.update(key, text(key, value), Number(expected), CALL_TIMEOUT_MS),
        ),
      ),
    get: (key) =>
      call(`reading ${key}`, async (kv) => {
        const entry: KvEntry | null = await kv.get(key);
        if (entry === null || entry.operation !== 'PUT') return null;
        return { key, value: parseJson(entry.value), revision: BigInt(entry.revision) };
      }),
    delete: (key) => call(`deleting ${key}`, (kv) => kv.delete(key)),
    watch: () => new StateMirror(state),
  };
  return state;
}
