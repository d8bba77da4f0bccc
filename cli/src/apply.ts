// SPDX-License-Identifier: Apache-2.0
/** Puts an intent in force: numbers it, stores the revision, and moves the head by compare-and-swap. */
import { type IntentHead, stateKey } from '@detour/contracts';
import { Fault } from '@detour/core';
import {
  canonicalText,
  encodeRevision,
  type Intent,
  newSelectionKey,
  numberIntent,
  type Revision,
} from '@detour/intent';
import { traceparentOf, withSpan } from '@detour/telemetry';
import type { Cluster } from './cluster.js';
import { type Head, loadHead, loadRevision } from './history.js';

/** What to put in force, and on whose word. */
export interface Publication {
  readonly intent: Intent;
  readonly author: string;
  /** Why, where it is more than an apply. */
  readonly note: string;
  /** Make a new revision although the intent in force is the same. */
  readonly always: boolean;
}

export interface Published {
  readonly revision: number;
  readonly sha256: string;
  /** False: the same intent was in force already, and nothing was written. */
  readonly changed: boolean;
}

interface Base {
  readonly head: Head | null;
  readonly revision: Revision | null;
}

async function loadBase(cluster: Cluster): Promise<Base> {
  const head = await loadHead(cluster);
  return { head, revision: head === null ? null : await loadRevision(cluster, head) };
}

/** The next revision after a base. @throws Fault `exhausted` when there are not enough numbers */
function nextRevision(base: Base, publication: Publication, nowMs: number): Revision {
  const numbered = numberIntent(publication.intent, base.revision?.numbers ?? null, nowMs);
  if (!numbered.ok) {
    const text = numbered.problems.map(({ message, remedy }) => `${message}: ${remedy}`).join('; ');
    throw new Fault('exhausted', text);
  }
  return {
    revision: (base.head?.revision ?? 0) + 1,
    intent: publication.intent,
    numbers: numbered.numbers,
    selectionKey: base.revision?.selectionKey ?? newSelectionKey(),
    author: publication.author,
    at: new Date(nowMs).toISOString(),
    note: publication.note,
    ...(base.head === null ? {} : { parent: { revision: base.head.revision, sha256: base.head.sha256 } }),
  };
}

const textOf = (base: Base): string => (base.revision === null ? '' : canonicalText(base.revision.intent));

async function publishOn(cluster: Cluster, base: Base, publication: Publication): Promise<Published> {
  const { head } = base;
  if (head !== null && !publication.always && textOf(base) === canonicalText(publication.intent))
    return { revision: head.revision, sha256: head.sha256, changed: false };
  const nowMs = Date.now();
  const revision = nextRevision(base, publication, nowMs);
  const { text } = encodeRevision(revision);
  const bytes = new TextEncoder().encode(text);
  const sha256 = await withSpan('store revision', {}, () => cluster.store.put(bytes));
  await withSpan('move head', { attributes: { 'detour.revision': revision.revision } }, (span) => {
    const traceparent = traceparentOf(span);
    const next: IntentHead = {
      revision: revision.revision,
      sha256,
      atMs: nowMs,
      author: publication.author,
      ...(traceparent === '' ? {} : { traceparent }),
    };
    return cluster.state.cas(stateKey.intentHead(), next, head?.sequence ?? 0n);
  });
  return { revision: revision.revision, sha256, changed: true };
}

/**
 * Publishes an intent. If the head moved meanwhile but names the same intent as before, it is tried once more on the new head.
 * @throws Fault `conflict` when somebody else put another intent in force, `exhausted`, `unavailable`, `timeout`
 */
export async function publishIntent(cluster: Cluster, publication: Publication): Promise<Published> {
  const base = await loadBase(cluster);
  try {
    return await publishOn(cluster, base, publication);
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'conflict') throw error;
    const now = await loadBase(cluster);
    const known = [textOf(base), canonicalText(publication.intent)];
    if (known.includes(textOf(now))) return publishOn(cluster, now, publication);
    const { revision, author } = now.head ?? { revision: 0, author: 'somebody' };
    throw new Fault(
      'conflict',
      `${author} applied revision ${revision} meanwhile: look at it with detour diff -f FILE, then apply again`,
      error,
    );
  }
}
