// SPDX-License-Identifier: Apache-2.0
/** What comes in by NATS: the intent revision in force → the live tables, their subscribers, the alarms. */
import { type AlarmBook, followIntent, type IntentStore, type StateMirror } from '@detour/bus';
import { type RuleRow, stateKey } from '@detour/contracts';
import type { Clock, Log } from '@detour/core';
import { decodeRevision, type Revision } from '@detour/intent';
import type { TablePublisher } from '@detour/rpc';
import type { LiveTables } from './live-tables.js';

export interface EventsSpec {
  readonly mirror: StateMirror;
  readonly store: IntentStore;
  readonly alarms: AlarmBook;
  readonly tables: LiveTables;
  readonly publisher: TablePublisher<RuleRow>;
  readonly clock: Clock;
  readonly log: Log;
  /** The outcome of each revision that came. */
  readonly onRevision: (outcome: 'live' | 'refused', tookMs: number) => void;
}

export interface Events extends Disposable {
  /** Resolves once what is in force is live or refused, or nothing is in force: questions can be answered. */
  readonly settled: Promise<void>;
}

export function followRevisions(spec: EventsSpec): Events {
  const { mirror, alarms, tables, publisher, clock, log } = spec;
  let settle = () => {};
  const first = new Promise<void>((resolve) => {
    settle = resolve;
  });
  const refuse = (revision: number, why: string) => {
    log.error({ revision }, `revision ${revision} is refused, the rules before stay in force: ${why}`);
    alarms.raise('intent_refused', '', `the classifier cannot use revision ${revision}: ${why}`);
    spec.onRevision('refused', 0);
    settle();
  };
  const following = followIntent<Revision>({
    mirror,
    store: spec.store,
    clock,
    log,
    decode: decodeRevision,
    onRefused: (head, why) => refuse(head.revision, why),
    onRevision: ({ head, revision, epoch, sequence }) => {
      const startMs = clock.monoMs();
      const version = { epoch, sequence, revision: head.revision };
      const why = tables.apply(revision, version);
      if (why !== null) return refuse(head.revision, why);
      alarms.clear('intent_refused', '');
      tellUnresolved(alarms, tables);
      publisher.publish(version, (gateway) => tables.tableOf(gateway)?.rows ?? []);
      const tookMs = clock.monoMs() - startMs;
      log.info(
        { revision: head.revision, rules: revision.intent.rules.length, tookMs },
        `revision ${head.revision} is live`,
      );
      spec.onRevision('live', tookMs);
      settle();
    },
  });
  const settled = mirror.caughtUp.then(() =>
    mirror.get(stateKey.intentHead()) === null ? undefined : first,
  );
  settled.catch(() => {}); // rejects when the process stops first; nobody has to wait for it
  return { settled, [Symbol.dispose]: () => following[Symbol.dispose]() };
}

/** An alarm for each rule whose chain does not exist (VRFC-3), cleared when it does. */
function tellUnresolved(alarms: AlarmBook, tables: LiveTables): void {
  const unresolved = new Map(tables.unresolved().map(({ rule, chain }) => [rule, chain]));
  for (const { code, subject } of alarms.active())
    if (code === 'rule_unresolved' && !unresolved.has(subject)) alarms.clear(code, subject);
  for (const [rule, chain] of unresolved)
    alarms.raise(
      'rule_unresolved',
      rule,
      `rule ${rule} names the chain ${chain}, which does not exist: declare it`,
    );
}
