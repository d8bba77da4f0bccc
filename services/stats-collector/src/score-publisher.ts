// SPDX-License-Identifier: Apache-2.0
/**
 * Publishes scores to the state bucket by compare-and-swap: read what is published, compare, write at its revision, on conflict read
 * again. Any number of replicas may do this side by side: the published score is the only memory.
 */
import type { State, StateEntry, StateMirror } from '@detour/bus';
import { type ScoreValue, stateKey } from '@detour/contracts';
import { type Clock, describeError, Fault, type Log } from '@detour/core';
import { nextScore, type ScoreSteps, type WholeScore } from '@detour/tables';

/** What one node's score should be, as evaluated here. */
export interface WantedScore extends WholeScore, ScoreSteps {
  /** The other nodes of its service. */
  readonly peers: readonly string[];
  /** What the formula was given of what is measured, where that is smoothed. */
  readonly smoothed: Readonly<Record<string, number>>;
  /** Inputs that gateways had measured. */
  readonly counted: readonly string[];
}

export interface ScorePublisherSpec {
  readonly state: State;
  readonly mirror: StateMirror;
  readonly clock: Clock;
  readonly log: Log;
  readonly onWrite: (outcome: 'published' | 'conflict' | 'failed') => void;
  /** Somebody else published a node's score. */
  readonly onForeign: (node: string, value: ScoreValue) => void;
}

const RETRY_MS = 250;
const PREFIX = stateKey.score('');

/** null when the value is no ScoreValue. */
export function readScore(value: unknown): ScoreValue | null {
  if (typeof value !== 'object' || value === null) return null;
  const { score, fresh, why, atMs, otherZone, sinceMs, ramp, smoothed, counted } = value as Record<
    string,
    unknown
  >;
  if (typeof score !== 'number' || !Number.isFinite(score) || score < 0) return null;
  if (typeof fresh !== 'boolean' || typeof why !== 'string' || typeof atMs !== 'number') return null;
  return {
    ...{ score, fresh, why, atMs },
    ...(isAmount(otherZone) && { otherZone }),
    ...(isAmount(sinceMs) && { sinceMs }),
    ...(isAmount(ramp) && ramp < 1 && { ramp }),
    ...(isAmounts(smoothed) && { smoothed }),
    ...(Array.isArray(counted) && counted.every((name) => typeof name === 'string') && { counted }),
  };
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

function isAmounts(value: unknown): value is Record<string, number> {
  return typeof value === 'object' && value !== null && Object.values(value).every(isAmount);
}

/** What a successor needs to go on; nothing of a node that is worth nothing for want of a word: it begins anew. */
function historyOf({ fresh, smoothed, counted }: WantedScore): Pick<ScoreValue, 'smoothed' | 'counted'> {
  if (!fresh) return {};
  return {
    ...(Object.keys(smoothed).length > 0 && { smoothed }),
    ...(counted.length > 0 && { counted }),
  };
}

export class ScorePublisher implements AsyncDisposable {
  readonly #wanted = new Map<string, WantedScore>();
  readonly #busy = new Map<string, Promise<void>>();
  readonly #retries = new Map<string, () => void>();
  /** Revisions that were written here. */
  readonly #own = new Map<string, bigint>();
  readonly #off: () => void;
  #ended = false;

  constructor(private readonly spec: ScorePublisherSpec) {
    this.#off = spec.mirror.onChange((batch) => {
      if (batch.epochChanged) for (const node of this.#wanted.keys()) this.#kick(node);
      for (const { key, after } of batch.changes) {
        if (!key.startsWith(PREFIX)) continue;
        const node = key.slice(PREFIX.length);
        // What comes while this process writes is its own, or makes that a conflict.
        if (after !== null && !this.#busy.has(node)) this.#noticeForeign(node, after);
        this.#kick(node);
      }
    });
  }

  /** What is published for a node, as last seen. */
  published(node: string): ScoreValue | null {
    return readScore(this.spec.mirror.get(stateKey.score(node))?.value);
  }

  /** Says what a node's score should be; publishes it if it differs enough from what is published. */
  want(node: string, wanted: WantedScore): void {
    this.#wanted.set(node, wanted);
    this.#kick(node);
  }

  /** Forgets nodes that are no longer declared, and deletes their scores. */
  keepOnly(nodes: ReadonlySet<string>): void {
    for (const node of this.#wanted.keys())
      if (!nodes.has(node)) {
        this.#wanted.delete(node);
        this.#own.delete(node);
      }
    for (const key of this.spec.mirror.keys(PREFIX)) {
      if (nodes.has(key.slice(PREFIX.length))) continue;
      this.spec.state.delete(key).catch((error: unknown) => {
        this.spec.log.debug(
          { key, error: describeError(error) },
          'the score of a removed node is not deleted yet',
        );
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#off();
    for (const cancel of this.#retries.values()) cancel();
    await Promise.all(this.#busy.values());
  }

  #kick(node: string): void {
    if (this.#ended || this.#busy.has(node) || !this.#wanted.has(node)) return;
    this.#retries.get(node)?.();
    this.#retries.delete(node);
    const run = this.#run(node).then((again) => {
      this.#busy.delete(node);
      if (again) this.#again(node, RETRY_MS);
    });
    this.#busy.set(node, run);
  }

  #noticeForeign(node: string, { value, revision }: Pick<StateEntry, 'value' | 'revision'>): void {
    const score = revision === this.#own.get(node) ? null : readScore(value);
    if (score !== null && this.#wanted.has(node)) this.spec.onForeign(node, score);
  }

  #again(node: string, inMs: number): void {
    this.#retries.get(node)?.();
    this.#retries.delete(node);
    if (this.#ended) return;
    this.#retries.set(
      node,
      this.spec.clock.after(inMs, () => this.#kick(node)),
    );
  }

  /** One by one: mostly the first is answer enough. */
  *#publishedOf(nodes: readonly string[]): Iterable<ScoreValue | null> {
    for (const node of nodes) yield this.published(node);
  }

  /** Writes until what is published is near enough to what is wanted; true when it could not and is to be tried again. */
  async #run(node: string): Promise<boolean> {
    const { state, mirror, clock, log, onWrite } = this.spec;
    const key = stateKey.score(node);
    if (mirror.epoch === '') return true;
    let entry: StateEntry | null = mirror.get(key);
    try {
      for (;;) {
        const wanted = this.#wanted.get(node);
        if (wanted === undefined || this.#ended) return false;
        const published = readScore(entry?.value);
        const nowMs = clock.nowMs();
        const peers = this.#publishedOf(wanted.peers);
        const { value: next, reason, stepInMs } = nextScore(wanted, published, { peers, nowMs });
        if (stepInMs !== null) this.#again(node, stepInMs);
        if (reason === null) return false;
        const { score, fresh } = next;
        try {
          const value: ScoreValue = { ...next, ...historyOf(wanted), atMs: nowMs };
          const revision = await state.cas(key, value, entry?.revision ?? 0n);
          this.#own.set(node, revision);
          entry = { key, value, revision };
          onWrite('published');
          log.info(
            { node, score, fresh, before: published?.score ?? null, reason },
            `score of ${node}: ${reason}`,
          );
        } catch (error) {
          if (!(error instanceof Fault) || error.code !== 'conflict') throw error;
          onWrite('conflict');
          entry = await state.get(key);
          if (entry !== null) this.#noticeForeign(node, entry);
        }
      }
    } catch (error) {
      onWrite('failed');
      log.debug({ node, error: describeError(error) }, 'the score is not published yet');
      return true;
    }
  }
}
