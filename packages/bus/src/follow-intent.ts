// SPDX-License-Identifier: Apache-2.0
// The intent revision in force: follows intent.head in a mirror, loads what it names, and tells each revision once it can be read.
import { type IntentHead, stateKey } from '@detour/contracts';
import { type Clock, describeError, Fault, type Log } from '@detour/core';
import type { IntentStore } from './intent-store.js';
import type { StateMirror } from './mirror.js';

/** A revision in force, and the version of the bucket that says so. */
export interface FollowedIntent<R> {
  readonly head: IntentHead;
  readonly revision: R;
  /** Identity of the bucket, and the stream sequence of intent.head in it. */
  readonly epoch: string;
  readonly sequence: bigint;
}

export type DecodedIntent<R> =
  | { readonly ok: true; readonly revision: R }
  | { readonly ok: false; readonly why: string };

export interface FollowIntentSpec<R> {
  readonly mirror: StateMirror;
  readonly store: IntentStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Reads the stored text, which is already known to be the one of its SHA-256. Never throws. */
  readonly decode: (text: string, sha256: string) => DecodedIntent<R>;
  /** A revision came into force, or the same one under a new epoch or sequence. */
  readonly onRevision: (found: FollowedIntent<R>) => void;
  /** The head names what cannot be read: the revision before stays in force. Told once for each head. */
  readonly onRefused: (head: IntentHead, why: string) => void;
}

const RETRY_MS = 250;
const HEAD_KEY = stateKey.intentHead();

/** null when the value is no IntentHead. */
export function readIntentHead(value: unknown): IntentHead | null {
  if (typeof value !== 'object' || value === null) return null;
  const { revision, sha256, atMs, author, traceparent } = value as Record<string, unknown>;
  if (typeof revision !== 'number' || !Number.isInteger(revision) || revision < 1) return null;
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) return null;
  if (typeof atMs !== 'number' || typeof author !== 'string') return null;
  const traced =
    typeof traceparent === 'string' && /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent);
  return { revision, sha256, atMs, author, ...(traced ? { traceparent } : {}) };
}

/** Follows until it is disposed of. What is in force when it starts is told as soon as it is loaded. */
export function followIntent<R>(spec: FollowIntentSpec<R>): Disposable {
  const { mirror, store, clock, log } = spec;
  const empty: IntentHead = { revision: 0, sha256: '', atMs: 0, author: '' };
  let loaded: { sha256: string; revision: R } | null = null;
  let told = '';
  let refused = '';
  let loading = false;
  let again = false;
  let ended = false;
  let cancel = () => {};

  const refuse = (mark: string, head: IntentHead, why: string) => {
    if (refused === mark) return;
    refused = mark;
    spec.onRefused(head, why);
  };

  /** Loads what the head names now; true when nothing is left to do for that head. */
  const load = async (head: IntentHead, mark: string): Promise<boolean> => {
    try {
      const text = new TextDecoder().decode(await store.get(head.sha256));
      const decoded = spec.decode(text, head.sha256);
      if (decoded.ok) loaded = { sha256: head.sha256, revision: decoded.revision };
      else refuse(mark, head, decoded.why);
      return true;
    } catch (error) {
      const passing = error instanceof Fault && (error.code === 'unavailable' || error.code === 'timeout');
      if (!passing) refuse(mark, head, describeError(error));
      else
        log.debug({ revision: head.revision, error: describeError(error) }, 'the revision is not loaded yet');
      return false;
    }
  };

  const step = async (): Promise<void> => {
    for (;;) {
      const entry = mirror.get(HEAD_KEY);
      if (ended || entry === null) return;
      const mark = `${mirror.epoch} ${entry.revision}`;
      if (told === mark) return;
      const head = readIntentHead(entry.value);
      if (head === null) return refuse(mark, empty, `${HEAD_KEY} holds no revision: apply the intent again`);
      if (loaded?.sha256 !== head.sha256 && !(await load(head, mark))) {
        if (!ended) cancel = clock.after(RETRY_MS, kick);
        return;
      }
      const now = mirror.get(HEAD_KEY);
      if (ended || now === null || mark !== `${mirror.epoch} ${now.revision}`) continue;
      told = mark;
      if (loaded?.sha256 !== head.sha256) return; // refused
      const { revision } = loaded;
      spec.onRevision({ head, revision, epoch: mirror.epoch, sequence: entry.revision });
    }
  };
  const kick = () => {
    if (ended) return;
    again = loading;
    if (loading) return;
    cancel();
    loading = true;
    void step()
      .catch((error: unknown) => log.error({ error: describeError(error) }, 'following the intent failed'))
      .finally(() => {
        loading = false;
        if (again) kick();
      });
  };

  const off = mirror.onChange((batch) => {
    if (batch.epochChanged || batch.changes.some(({ key }) => key === HEAD_KEY)) kick();
  });
  kick();
  return {
    [Symbol.dispose]: () => {
      ended = true;
      off();
      cancel();
    },
  };
}
