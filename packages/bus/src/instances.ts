// SPDX-License-Identifier: Apache-2.0
// Which processes live: each writes a heartbeat, each watcher expires heartbeats by its own clock.
import {
  HEARTBEAT_MS,
  INSTANCE_EXPIRY_MS,
  type InstanceValue,
  type ServiceName,
  stateKey,
} from '@detour/contracts';
import { type Clock, describeError, type Log } from '@detour/core';
import type { StateBatch, StateMirror } from './mirror.js';
import type { State } from './state.js';

export interface Registration extends AsyncDisposable {
  /** Resolves once the first heartbeat is written. */
  readonly registered: Promise<void>;
}

export interface RegistrationSpec {
  readonly state: State;
  readonly service: ServiceName;
  readonly id: string;
  /** host:port of the gRPC server, of the metrics server; gateway '' for controllers. */
  readonly address: string;
  readonly metrics: string;
  readonly gateway: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Writes a heartbeat every HEARTBEAT_MS, whenever NATS is there; deletes the key when disposed. */
export function registerInstance(spec: RegistrationSpec): Registration {
  const { state, clock, log } = spec;
  const key = stateKey.instance(spec.service, spec.id);
  const startedMs = clock.nowMs();
  let beat = 0;
  let ended = false;
  let told = false;
  let cancel = () => {};
  let markRegistered = () => {};
  const registered = new Promise<void>((resolve) => {
    markRegistered = resolve;
  });
  const write = async () => {
    beat += 1;
    const { address, metrics, gateway } = spec;
    const value: InstanceValue = { address, metrics, gateway, startedMs, beat };
    try {
      await state.put(key, value);
      markRegistered();
      told = false;
    } catch (error) {
      if (!told && state.bus.connected)
        log.warn({ error: describeError(error) }, 'the heartbeat was not written');
      told = true;
    }
  };
  let writing = Promise.resolve();
  const next = () => {
    if (ended) return;
    const dueMs = clock.monoMs() + HEARTBEAT_MS;
    writing = write().then(() => {
      if (!ended) cancel = clock.after(Math.max(0, dueMs - clock.monoMs()), next);
    });
  };
  next();
  const off = state.bus.onConnectionChange((connected) => {
    if (!connected) return;
    cancel();
    void writing.then(() => {
      cancel();
      next();
    });
  });
  return {
    registered,
    [Symbol.asyncDispose]: async () => {
      ended = true;
      cancel();
      off();
      await writing;
      if (state.bus.connected) await state.delete(key).catch(() => {}); // else it expires
    },
  };
}

export interface LiveInstance extends Omit<InstanceValue, 'beat'> {
  readonly id: string;
}

export interface InstanceWatch extends Disposable {
  /** Live instances by id. */
  list(): readonly LiveInstance[];
  addresses(): string[];
  onChange(listener: () => void): () => void;
}

export interface InstanceWatchSpec {
  readonly mirror: StateMirror;
  readonly service: ServiceName;
  readonly clock: Clock;
}

const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= 300;

/** null when the value is no InstanceValue. */
function readInstance(value: unknown): InstanceValue | null {
  if (typeof value !== 'object' || value === null) return null;
  const { address, metrics, gateway, startedMs, beat } = value as Record<string, unknown>;
  if (!isText(address) || !isText(metrics) || !isText(gateway)) return null;
  return typeof startedMs === 'number' && typeof beat === 'number'
    ? { address, metrics, gateway, startedMs, beat }
    : null;
}

/**
 * Follows the instances of one service. One is gone when its key is deleted, or INSTANCE_EXPIRY_MS after its last heartbeat by this
 * process's clock. While the mirror is not live nothing expires, and the deletions of a new epoch count as missing heartbeats only.
 */
export function watchInstances(spec: InstanceWatchSpec): InstanceWatch {
  const { mirror, clock } = spec;
  const prefix = stateKey.instance(spec.service, '');
  const seen = new Map<string, { value: InstanceValue; seenMs: number }>();
  const listeners = new Set<() => void>();
  const changed = () => {
    for (const listener of [...listeners]) listener();
  };
  const take = (key: string, raw: unknown): boolean => {
    const value = readInstance(raw);
    if (value === null) return false;
    const id = key.slice(prefix.length);
    const before = seen.get(id)?.value;
    seen.set(id, { value, seenMs: clock.monoMs() });
    return before === undefined || before.address !== value.address || before.startedMs !== value.startedMs;
  };
  const onBatch = (batch: StateBatch) => {
    let differs = false;
    if (batch.resynced) for (const one of seen.values()) one.seenMs = clock.monoMs();
    for (const { key, after } of batch.changes) {
      if (!key.startsWith(prefix)) continue;
      if (after !== null) differs = take(key, after.value) || differs;
      else if (!batch.epochChanged) differs = seen.delete(key.slice(prefix.length)) || differs;
    }
    if (differs) changed();
  };
  for (const { key, value } of mirror.entries(prefix)) take(key, value);
  const off = mirror.onChange(onBatch);
  let cancel = () => {};
  const sweep = () => {
    cancel = clock.after(HEARTBEAT_MS / 4, sweep);
    const now = clock.monoMs();
    let differs = false;
    for (const [id, one] of seen) {
      if (!mirror.live) one.seenMs = now;
      else if (now - one.seenMs >= INSTANCE_EXPIRY_MS) differs = seen.delete(id) || differs;
    }
    if (differs) changed();
  };
  sweep();
  const list = () =>
    [...seen]
      .map(
        ([
          id,
          {
            value: { beat: _, ...rest },
          },
        ]) => ({ id, ...rest }),
      )
      .sort((x, y) => (x.id < y.id ? -1 : 1));
  return {
    list,
    addresses: () => list().map((one) => one.address),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    [Symbol.dispose]: () => {
      off();
      cancel();
    },
  };
}
