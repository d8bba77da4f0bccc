// SPDX-License-Identifier: Apache-2.0
/** The canonical form of an intent: one text for one meaning, whatever order and spelling the operator chose. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { documentSchema, freezeDeep, type Intent, type IntentDocument } from './schema.js';

/** The same JSON value with the keys of every object sorted. */
export function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return Object.fromEntries(
    entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => [key, sortKeys(inner)]),
  );
}

/** One JSON text for one value: sorted keys, no spaces, a newline at the end. */
export function canonicalJson(value: unknown): string {
  return `${JSON.stringify(sortKeys(value))}\n`;
}

/** The intent as plain JSON in the shape that operators write, every default written out. */
export function toDocument(intent: Intent): IntentDocument {
  // Encoding copies; the readonly view of an intent is the schema's own output type otherwise.
  return z.encode(documentSchema, structuredClone(intent) as z.output<typeof documentSchema>);
}

/** Reads back what toDocument made. References are not checked again: they were when the intent was made. */
export function fromDocument(document: unknown): { ok: true; intent: Intent } | { ok: false; why: string } {
  const parsed = documentSchema.safeParse(document);
  if (parsed.success) return { ok: true, intent: freezeDeep<Intent>(parsed.data) };
  const [issue] = parsed.error.issues;
  return { ok: false, why: `${(issue?.path ?? []).map(String).join('.')}: ${issue?.message ?? 'unknown'}` };
}

/** The canonical document as JSON text, which is YAML too; equal intents give equal bytes. */
export function canonicalText(intent: Intent): string {
  return canonicalJson(toDocument(intent));
}

/** SHA-256 of a text's UTF-8 bytes, in lower-case hex. */
export function sha256Hex(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}
