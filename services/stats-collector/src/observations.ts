// SPDX-License-Identifier: Apache-2.0
/**
 * What one replica saw of a node, told to the others over NATS. A node's report reaches one replica only, and a replica may be cut off
 * from a node: without this the others would call that node stale. Loss is harmless: the next scrape or report tells again. An age is sent, not a time, so replicas' clocks may differ.
 */
import type { Bus } from '@detour/bus';
import { OBSERVATION_SUBJECTS, observationSubject } from '@detour/contracts';
import { describeError, type Log } from '@detour/core';
import { siftAttributes } from './attributes.js';
import type { Observation } from './collector.js';

export interface ExchangeSpec {
  readonly bus: Bus;
  /** Of this replica: its own messages come back and are passed over. */
  readonly instance: string;
  readonly log: Log;
  readonly onObservation: (seen: Observation) => void;
}

export interface Exchange extends Disposable {
  readonly share: (seen: Observation) => void;
}

const MAX_AGE_MS = 86_400_000;

/** The message as an observation; null when it is none, or one's own. Its values are checked as if they came from the node. */
export function readObservation(message: unknown, instance: string): Observation | null {
  if (typeof message !== 'object' || message === null) return null;
  const { from, node, source, reporter, ageMs, values } = message as Record<string, unknown>;
  if (typeof from !== 'string' || from === instance) return null;
  if (typeof node !== 'string' || typeof reporter !== 'string') return null;
  if (source !== 'prometheus' && source !== 'report' && source !== 'gateway') return null;
  if (typeof ageMs !== 'number' || !(ageMs >= 0 && ageMs <= MAX_AGE_MS)) return null;
  if (typeof values !== 'object' || values === null) return null;
  const numbers = Object.entries(values).filter(
    (entry): entry is [string, number] => typeof entry[1] === 'number',
  );
  return { node, source, reporter, ageMs, values: siftAttributes(numbers).values };
}

export function openExchange({ bus, instance, log, onObservation }: ExchangeSpec): Exchange {
  let unsubscribe = () => {};
  const subscribe = () => {
    unsubscribe();
    const subscription = bus.connection().subscribe(OBSERVATION_SUBJECTS, {
      callback: (error, message) => {
        if (error !== null)
          return log.debug({ error: error.message }, 'observations of other replicas are not read');
        try {
          const seen = readObservation(message.json(), instance);
          if (seen !== null) onObservation(seen);
        } catch (reason) {
          log.debug({ error: describeError(reason) }, 'an observation that is no JSON was passed over');
        }
      },
    });
    unsubscribe = () => {
      if (!subscription.isClosed()) subscription.unsubscribe();
    };
  };
  const off = bus.onConnectionChange((connected) => {
    if (connected) subscribe();
  });
  if (bus.connected) subscribe();
  return {
    share: ({ values, ...seen }) => {
      bus.publish(observationSubject(seen.node), {
        from: instance,
        ...seen,
        values: Object.fromEntries(values),
      });
    },
    [Symbol.dispose]: () => {
      off();
      unsubscribe();
    },
  };
}
