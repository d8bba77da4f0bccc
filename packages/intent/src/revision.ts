// SPDX-License-Identifier: Apache-2.0
/** A stored revision: the document, its numbers, and who made it when; one JSON object, named by its SHA-256. */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson, fromDocument, sha256Hex, toDocument } from './canonical.js';
import { type Numbers, numbersSchema } from './numbers.js';
import type { Intent } from './schema.js';

/** What every process reads. */
export interface Revision {
  /** From 1, one more than the revision before. */
  readonly revision: number;
  readonly intent: Intent;
  readonly numbers: Numbers;
  /** Secret of the selection hash, the same on all gateways: 16 bytes in hex. Kept from revision to revision. */
  readonly selectionKey: string;
  readonly author: string;
  /** When it was applied, ISO 8601 in UTC. */
  readonly at: string;
  /** Why it was made, such as `rollback to 3`; empty for a plain apply. */
  readonly note: string;
  /** The revision before: following these finds every earlier one. Absent for the first. */
  readonly parent?: RevisionName | undefined;
}

/** A revision by its number, and the name of its text in the object store. */
export interface RevisionName {
  readonly revision: number;
  readonly sha256: string;
}

/** The stored form; `intent` is the canonical document. */
export const revisionSchema = z.strictObject({
  revision: z.int().positive(),
  intent: z.unknown(),
  numbers: numbersSchema,
  selectionKey: z.string().regex(/^[0-9a-f]{32}$/),
  author: z.string().max(256),
  at: z.iso.datetime(),
  note: z.string().max(1024).default(''),
  parent: z
    .strictObject({ revision: z.int().positive(), sha256: z.string().regex(/^[0-9a-f]{64}$/) })
    .optional(),
});

export type RevisionResult =
  | { readonly ok: true; readonly revision: Revision }
  | { readonly ok: false; readonly why: string };

/** The stored text of a revision and its name in the object store. */
export function encodeRevision(revision: Revision): { readonly text: string; readonly sha256: string } {
  const text = canonicalJson({ ...revision, intent: toDocument(revision.intent) });
  return { text, sha256: sha256Hex(text) };
}

/** Reads a stored revision; with `sha256`, only if the text is the one of that name. Never throws. */
export function decodeRevision(text: string, sha256?: string): RevisionResult {
  if (sha256 !== undefined && sha256Hex(text) !== sha256)
    return {
      ok: false,
      why: `the stored revision is not the one named ${sha256}: its SHA-256 is ${sha256Hex(text)}`,
    };
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    return {
      ok: false,
      why: `the stored revision is no JSON: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
  const parsed = revisionSchema.safeParse(data);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return {
      ok: false,
      why: `the stored revision has no valid ${(issue?.path ?? []).map(String).join('.')}: ${issue?.message ?? ''}`,
    };
  }
  const document = fromDocument(parsed.data.intent);
  if (!document.ok) return { ok: false, why: `the stored revision's intent is not valid: ${document.why}` };
  return { ok: true, revision: { ...parsed.data, intent: document.intent } };
}

/** A new secret for the selection hash. */
export function newSelectionKey(): string {
  return randomBytes(16).toString('hex');
}
