// SPDX-License-Identifier: Apache-2.0
// Intent revisions from the text of a document, and putting one into force as `detour apply` does.
import type { IntentStore, State } from '@detour/bus';
import { type IntentHead, stateKey } from '@detour/contracts';
import { encodeRevision, numberIntent, type ParseMode, parseIntent, type Revision } from '@detour/intent';

export interface RevisionSpec {
  readonly revision?: number;
  readonly mode?: ParseMode;
  /** The revision whose numbers go on. */
  readonly before?: Revision;
}

/** The document as a revision; equal texts give equal revisions. Throws with all problems when it is not valid. */
export function revisionOf(
  text: string,
  { revision = 1, mode = 'whole', before }: RevisionSpec = {},
): Revision {
  const parsed = parseIntent(text, 'intent.yaml', mode);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems, null, 1));
  const numbered = numberIntent(parsed.intent, before?.numbers ?? null, 0);
  if (!numbered.ok) throw new Error(JSON.stringify(numbered.problems));
  return {
    revision,
    intent: parsed.intent,
    numbers: numbered.numbers,
    selectionKey: '000102030405060708090a0b0c0d0e0f',
    author: 'test',
    at: '2026-01-01T00:00:00.000Z',
    note: '',
  };
}

/** Stores a revision and makes it the head; answers the head's sequence. */
export async function applyRevision(
  { state, store }: { readonly state: State; readonly store: IntentStore },
  revision: Revision,
): Promise<bigint> {
  const { text } = encodeRevision(revision);
  const sha256 = await store.put(Buffer.from(text));
  const head: IntentHead = { revision: revision.revision, sha256, atMs: 0, author: revision.author };
  return state.put(stateKey.intentHead(), head);
}
