// SPDX-License-Identifier: Apache-2.0
/** The revision in force and those before it. */
import { readIntentHead } from '@detour/bus';
import { type IntentHead, stateKey } from '@detour/contracts';
import { Fault } from '@detour/core';
import { decodeRevision, type Revision, type RevisionName } from '@detour/intent';
import type { Cluster } from './cluster.js';

/** The head as it is stored: what it names, and the stream sequence to compare with when it is replaced. */
export interface Head extends IntentHead {
  readonly sequence: bigint;
}

/** The head now; null before the first apply. @throws Fault `internal` when it is not readable */
export async function loadHead(cluster: Cluster): Promise<Head | null> {
  const entry = await cluster.state.get(stateKey.intentHead());
  if (entry === null) return null;
  const head = readIntentHead(entry.value);
  if (head === null)
    throw new Fault(
      'internal',
      `${entry.key} holds ${JSON.stringify(entry.value)}, which names no revision: delete the key and apply again`,
    );
  return { ...head, sequence: entry.revision };
}

/** A stored revision. @throws Fault `not_found` | `internal` */
export async function loadRevision(cluster: Cluster, name: RevisionName): Promise<Revision> {
  const bytes = await cluster.store.get(name.sha256);
  const decoded = decodeRevision(new TextDecoder().decode(bytes), name.sha256);
  if (!decoded.ok) throw new Fault('internal', `revision ${name.revision} cannot be read: ${decoded.why}`);
  return decoded.revision;
}

/** The revision in force. @throws Fault `not_found` before the first apply */
export async function loadCurrent(cluster: Cluster): Promise<{ head: Head; revision: Revision }> {
  const head = await loadHead(cluster);
  if (head === null) throw new Fault('not_found', 'no intent is applied yet: run detour apply -f FILE');
  return { head, revision: await loadRevision(cluster, head) };
}

/** A revision with the name under which it is stored. */
export interface StoredRevision {
  readonly name: RevisionName;
  readonly revision: Revision;
}

/** The revisions from the one in force back to the first, newest first. */
export async function* walkHistory(cluster: Cluster): AsyncGenerator<StoredRevision> {
  const head = await loadHead(cluster);
  let name: RevisionName | undefined =
    head === null ? undefined : { revision: head.revision, sha256: head.sha256 };
  while (name !== undefined) {
    const revision: Revision = await loadRevision(cluster, name);
    yield { name, revision };
    name = revision.parent;
  }
}

/** An earlier revision by its number. @throws Fault `not_found` */
export async function findRevision(cluster: Cluster, number: number): Promise<StoredRevision> {
  const seen: number[] = [];
  for await (const stored of walkHistory(cluster)) {
    if (stored.name.revision === number) return stored;
    seen.push(stored.name.revision);
    if (stored.name.revision < number) break;
  }
  const known = seen.length === 0 ? 'none is applied yet' : `the newest is ${seen[0]}`;
  throw new Fault('not_found', `there is no revision ${number}: ${known}; see detour get revisions`);
}
