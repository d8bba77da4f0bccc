// SPDX-License-Identifier: Apache-2.0
/** What comes in by NATS: the intent revision in force → which nodes are watched, and how they are scored. */
import { type AlarmBook, followIntent, type IntentStore, type StateMirror } from '@detour/bus';
import { stateKey } from '@detour/contracts';
import type { Clock, Log } from '@detour/core';
import { decodeRevision, type Revision } from '@detour/intent';
import type { Collector } from './collector.js';
import type { ScorePublisher } from './score-publisher.js';

export interface EventsSpec {
  readonly mirror: StateMirror;
  readonly store: IntentStore;
  readonly alarms: AlarmBook;
  readonly collector: Collector;
  readonly publisher: ScorePublisher;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Events extends Disposable {
  /** Resolves once what is in force is watched or refused, or nothing is in force. */
  readonly settled: Promise<void>;
}

export function followRevisions(spec: EventsSpec): Events {
  const { mirror, alarms, collector, publisher, clock, log } = spec;
  let settle = () => {};
  const first = new Promise<void>((resolve) => {
    settle = resolve;
  });
  const following = followIntent<Revision>({
    mirror,
    store: spec.store,
    clock,
    log,
    decode: decodeRevision,
    onRefused: ({ revision }, why) => {
      log.error({ revision }, `revision ${revision} is refused, the nodes before stay watched: ${why}`);
      alarms.raise('intent_refused', '', `the stats-collector cannot use revision ${revision}: ${why}`);
      settle();
    },
    onRevision: ({ head, revision }) => {
      alarms.clear('intent_refused', '');
      collector.apply(revision.intent);
      publisher.keepOnly(new Set(revision.intent.nodes.map(({ name }) => name)));
      log.info(
        { revision: head.revision, nodes: revision.intent.nodes.length },
        `revision ${head.revision} is watched`,
      );
      settle();
    },
  });
  const settled = mirror.caughtUp.then(() =>
    mirror.get(stateKey.intentHead()) === null ? undefined : first,
  );
  settled.catch(() => {}); // rejects when the process stops first; nobody has to wait for it
  return { settled, [Symbol.dispose]: () => following[Symbol.dispose]() };
}
