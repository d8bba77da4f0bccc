// SPDX-License-Identifier: Apache-2.0
/** What comes in by NATS: the revision in force, scores, drains → the path table, once for a burst; health → what questions are answered by. */
import { type AlarmBook, followIntent, type IntentStore, type StateMirror } from '@detour/bus';
import {
  type AlarmCode,
  type ChainRow,
  type ScoreValue,
  stateKey,
  type TableVersion,
} from '@detour/contracts';
import type { Clock, Log } from '@detour/core';
import { decodeRevision, type Revision } from '@detour/intent';
import type { TablePublisher } from '@detour/rpc';
import type { GatewayHealth } from './gateway-health.js';
import type { LivePaths } from './live-paths.js';
import type { NodeFacts } from './node-worths.js';

export interface EventsSpec {
  readonly mirror: StateMirror;
  readonly store: IntentStore;
  readonly alarms: AlarmBook;
  readonly health: GatewayHealth;
  readonly paths: LivePaths;
  readonly publisher: TablePublisher<ChainRow>;
  readonly coalesceMs: number;
  readonly clock: Clock;
  readonly log: Log;
  /** The outcome of each table that was made. */
  readonly onTable: (outcome: 'live' | 'refused', tookMs: number) => void;
}

export interface Events extends Disposable {
  /** Resolves once what is in force is live or refused, or nothing is in force: questions can be answered. */
  readonly settled: Promise<void>;
}

const HEALTH_PREFIX = 'health.';
const SCORE_PREFIX = stateKey.score('');
const DRAIN_PREFIX = stateKey.drain('');
/** Keys that the path table is a function of. */
const TABLE_KEYS = [stateKey.intentHead(), SCORE_PREFIX, DRAIN_PREFIX];

export function followState(spec: EventsSpec): Events {
  const { mirror, alarms, health, paths, publisher, clock, log } = spec;
  const facts = factsOf(mirror);
  let revision: Revision | null = null;
  let cancel: (() => void) | null = null;
  let settle = () => {};
  const first = new Promise<void>((resolve) => {
    settle = resolve;
  });

  const refuse = (number: number, why: string) => {
    log.error({ revision: number }, `revision ${number} is refused, the paths before stay in force: ${why}`);
    alarms.raise('intent_refused', '', `the path-selector cannot use revision ${number}: ${why}`);
    spec.onTable('refused', 0);
    settle();
  };
  const rebuild = () => {
    cancel?.();
    cancel = null;
    if (revision === null) return;
    const startMs = clock.monoMs();
    const version: TableVersion = {
      epoch: mirror.epoch,
      sequence: mirror.version(TABLE_KEYS),
      revision: revision.revision,
    };
    const why = paths.apply(revision, facts, version);
    if (why !== null) return refuse(revision.revision, why);
    alarms.clear('intent_refused', '');
    tellShortfalls(alarms, paths);
    publisher.publish(version, (gateway) => paths.rowsOf(gateway));
    spec.onTable('live', clock.monoMs() - startMs);
    settle();
  };

  const following = followIntent<Revision>({
    mirror,
    store: spec.store,
    clock,
    log,
    decode: decodeRevision,
    onRefused: (head, why) => refuse(head.revision, why),
    onRevision: (found) => {
      revision = found.revision;
      health.setPolicies(revision);
      log.info(
        { revision: revision.revision, chains: revision.intent.chains.length },
        `revision ${revision.revision} is in force`,
      );
      rebuild();
    },
  });
  const off = mirror.onChange((batch) => {
    let table = batch.epochChanged;
    for (const { key, after } of batch.changes) {
      if (key.startsWith(SCORE_PREFIX) || key.startsWith(DRAIN_PREFIX)) table = true;
      else if (key.startsWith(HEALTH_PREFIX)) {
        const gateway = health.take(key, after?.value);
        if (gateway !== null) paths.forget(gateway);
      }
    }
    if (!table || cancel !== null || revision === null) return;
    cancel = clock.after(spec.coalesceMs, rebuild);
  });
  for (const { key, value } of mirror.entries(HEALTH_PREFIX)) health.take(key, value);
  const settled = mirror.caughtUp.then(() =>
    mirror.get(stateKey.intentHead()) === null ? undefined : first,
  );
  settled.catch(() => {}); // rejects when the process stops first; nobody has to wait for it
  return {
    settled,
    [Symbol.dispose]: () => {
      following[Symbol.dispose]();
      off();
      cancel?.();
    },
  };
}

/** Scores and drains as the mirror holds them now; what is malformed counts as not there. */
function factsOf(mirror: StateMirror): NodeFacts {
  return {
    scoreOf: (node) => scoreAt(mirror, node, 'score'),
    otherZoneScoreOf: (node) => scoreAt(mirror, node, 'otherZone'),
    drained: (node) => {
      const value = mirror.get(stateKey.drain(node))?.value;
      return (
        typeof value === 'object' && value !== null && (value as Record<string, unknown>).draining === true
      );
    },
  };
}

function scoreAt(mirror: StateMirror, node: string, member: keyof ScoreValue): number | null {
  const value = mirror.get(stateKey.score(node))?.value;
  if (typeof value !== 'object' || value === null) return null;
  const { [member]: score, fresh } = value as Record<string, unknown>;
  if (typeof score !== 'number' || !Number.isFinite(score) || score < 0) return null;
  return fresh === false ? 0 : score;
}

/** Alarms for what the table could not do as told, and for chains that no fresh score is left for. */
function tellShortfalls(alarms: AlarmBook, paths: LivePaths): void {
  const stale = paths.rows.flatMap((row): [string, string][] =>
    row.allStale
      ? [[row.name, `chain ${row.name}: no node has a fresh score; declared capacity counts`]]
      : [],
  );
  tellChains(alarms, 'chain_shortfall', paths.shortfalls);
  tellChains(alarms, 'all_stale', new Map(stale));
}

function tellChains(alarms: AlarmBook, code: AlarmCode, wanted: ReadonlyMap<string, string>): void {
  for (const alarm of alarms.active())
    if (alarm.code === code && !wanted.has(alarm.subject)) alarms.clear(code, alarm.subject);
  for (const [chain, text] of wanted) alarms.raise(code, chain, text);
}
