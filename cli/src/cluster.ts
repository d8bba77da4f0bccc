// SPDX-License-Identifier: Apache-2.0
/** The cluster as the CLI sees it: the state bucket, the stored revisions, and the services that registered themselves. */
import { hostname, userInfo } from 'node:os';
import {
  type Bus,
  connectBus,
  type IntentStore,
  openIntentStore,
  openState,
  type State,
  type StateMirror,
} from '@detour/bus';
import { type InstanceValue, SERVICE_NAMES, type ServiceName, stateKey } from '@detour/contracts';
import { Fault, silentLog } from '@detour/core';
import { list, readSettings } from '@detour/runtime';
import type { Console } from './console.js';

/** Longest wait for NATS to accept a connection and give its state. */
const CONNECT_MS = 3_000;

/** A service process that registered itself. */
export interface Instance extends InstanceValue {
  readonly service: ServiceName;
  readonly id: string;
}

export interface Cluster extends AsyncDisposable {
  readonly state: State;
  readonly store: IntentStore;
  /** The whole state bucket; caught up when the cluster is open. */
  readonly mirror: StateMirror;
  /** Registered processes of one service; one that crashed moments ago may still be among them. */
  instances(service: ServiceName): Instance[];
}

/** Who changes things: DETOUR_AUTHOR, or user@host. */
export function authorOf(env: Console['env']): string {
  return env.DETOUR_AUTHOR ?? `${userInfo().username}@${hostname()}`;
}

function readInstance(value: unknown): InstanceValue | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { address, metrics, gateway, startedMs, beat } = value as Partial<
    Record<keyof InstanceValue, unknown>
  >;
  if (typeof address !== 'string' || typeof metrics !== 'string' || typeof gateway !== 'string')
    return undefined;
  if (typeof startedMs !== 'number' || typeof beat !== 'number') return undefined;
  return { address, metrics, gateway, startedMs, beat };
}

function instancesIn(mirror: StateMirror, service: ServiceName): Instance[] {
  const prefix = stateKey.instance(service, '');
  return mirror.entries(prefix).flatMap(({ key, value }) => {
    const instance = readInstance(value);
    return instance === undefined ? [] : [{ ...instance, service, id: key.slice(prefix.length) }];
  });
}

/** All registered processes. */
export function allInstances(cluster: Cluster): Instance[] {
  return SERVICE_NAMES.flatMap((service) => cluster.instances(service));
}

async function within<T>(work: Promise<T>, ms: number, late: () => Fault): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), ms);
  });
  try {
    return await Promise.race([work, expiry]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Connects to NATS (DETOUR_NATS) and reads the state bucket.
 * @throws Fault `unavailable` when that takes too long, `invalid` for a wrong DETOUR_NATS
 */
export async function openCluster(console: Console): Promise<Cluster> {
  const { nats } = readSettings(
    { nats: list('DETOUR_NATS', { default: 'nats://127.0.0.1:4222', pattern: /^(nats|tls):\/\/[^\s,]+$/ }) },
    console.env,
  );
  const bus: Bus = connectBus({ servers: nats, name: 'detour-cli', signal: console.signal, log: silentLog });
  const where = nats.join(', ');
  try {
    await within(
      bus.whenConnected(),
      CONNECT_MS,
      () =>
        new Fault(
          'unavailable',
          `NATS at ${where} cannot be reached: start it, or name another in DETOUR_NATS`,
        ),
    );
    const state = openState(bus);
    // Opened once in the open, so that its error is told: the mirror would try for ever.
    await state.session();
    const mirror = state.watch();
    await within(
      mirror.caughtUp,
      CONNECT_MS,
      () =>
        new Fault('unavailable', `NATS at ${where} does not give its state bucket: look at the server's log`),
    );
    return {
      state,
      store: openIntentStore(bus),
      mirror,
      instances: (service) => instancesIn(mirror, service),
      [Symbol.asyncDispose]: async () => {
        await mirror[Symbol.asyncDispose]();
        await bus[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await bus[Symbol.asyncDispose]();
    throw error;
  }
}
