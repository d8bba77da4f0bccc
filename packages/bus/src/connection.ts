// SPDX-License-Identifier: Apache-2.0
// One NATS connection that is wanted for as long as the process lives: made in the background, and made again whenever it is lost.
import { describeError, Fault, type Log } from '@detour/core';
import { connect, type NatsConnection } from '@nats-io/transport-node';

export interface BusSpec {
  readonly servers: readonly string[];
  /** Name of the connection, as NATS shows it. */
  readonly name: string;
  readonly signal: AbortSignal;
  readonly log: Log;
}

export interface Bus extends AsyncDisposable {
  readonly connected: boolean;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Resolves once connected. @throws the signal's reason when the process stops first. */
  whenConnected(): Promise<void>;
  /** The connection. @throws Fault `unavailable` while there is none. */
  connection(): NatsConnection;
  /** Called after each loss (false) and each (re)connect (true); the returned function ends that. */
  onConnectionChange(listener: (connected: boolean) => void): () => void;
  /** Publishes JSON; false when there is no connection and nothing was sent. */
  publish(subject: string, message: unknown): boolean;
}

const RETRY_MS = 250;
const CONNECT_TIMEOUT_MS = 2_000;
/** A silent server is given up after two pings. */
const PING_INTERVAL_MS = 2_000;

/** Starts connecting and returns at once. */
export function connectBus(spec: BusSpec): Bus {
  const { log } = spec;
  const life = new AbortController();
  const signal = AbortSignal.any([spec.signal, life.signal]);
  const listeners = new Set<(connected: boolean) => void>();
  const where = spec.servers.join(', ');
  let current: NatsConnection | null = null;
  let connected = false;

  const change = (now: boolean) => {
    if (connected === now) return;
    connected = now;
    if (now) log.info({ nats: where }, 'connected to NATS');
    else if (!signal.aborted)
      log.warn({ nats: where }, 'NATS is away: going on with what is known, trying again');
    for (const listener of [...listeners]) listener(now);
  };

  const pause = () =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(done, RETRY_MS);
      function done() {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      }
      signal.addEventListener('abort', done);
    });

  const follow = async (connection: NatsConnection) => {
    for await (const status of connection.status()) {
      if (status.type === 'disconnect') change(false);
      else if (status.type === 'reconnect') change(true);
      else if (status.type === 'error') log.warn({ error: status.error.message }, 'NATS reports an error');
    }
  };

  const live = async () => {
    let told = false;
    while (!signal.aborted) {
      try {
        current = await connect({
          servers: [...spec.servers],
          name: spec.name,
          timeout: CONNECT_TIMEOUT_MS,
          reconnect: true,
          maxReconnectAttempts: -1,
          reconnectTimeWait: RETRY_MS,
          reconnectJitter: 100,
          pingInterval: PING_INTERVAL_MS,
          maxPingOut: 2,
          ignoreClusterUpdates: true,
        });
      } catch (error) {
        if (!told) {
          log.warn(
            { nats: where },
            `NATS cannot be reached (${describeError(error)}): trying again until it can`,
          );
        }
        told = true;
        await pause();
        continue;
      }
      told = false;
      if (signal.aborted) break;
      const following = follow(current);
      change(true);
      const error = await current.closed();
      await following;
      current = null;
      change(false);
      if (error && !signal.aborted) log.warn({ error: error.message }, 'the NATS connection was closed');
      if (!signal.aborted) await pause();
    }
    await current?.close();
  };
  const living = live();

  const bus: Bus = {
    get connected() {
      return connected;
    },
    log,
    signal,
    whenConnected: () =>
      new Promise((resolve, reject) => {
        if (connected) return resolve();
        if (signal.aborted) return reject(signal.reason);
        const settle = (act: () => void) => {
          listeners.delete(onChange);
          signal.removeEventListener('abort', onAbort);
          act();
        };
        const onChange = (now: boolean) => {
          if (now) settle(resolve);
        };
        const onAbort = () => settle(() => reject(signal.reason));
        listeners.add(onChange);
        signal.addEventListener('abort', onAbort);
      }),
    connection: () => {
      if (current === null || !connected) {
        throw new Fault('unavailable', `NATS at ${where} is not connected: start it, or give DETOUR_NATS`);
      }
      return current;
    },
    onConnectionChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    publish: (subject, message) => {
      if (current === null || !connected) return false;
      current.publish(subject, JSON.stringify(message));
      return true;
    },
    [Symbol.asyncDispose]: async () => {
      life.abort(new Fault('unavailable', 'the bus is closed'));
      await current?.close();
      await living;
    },
  };
  return bus;
}
