// SPDX-License-Identifier: Apache-2.0
/** What differs between two intents, row by row. */
import { canonicalJson, toDocument } from './canonical.js';
import type { Intent, IntentDocument, Section } from './schema.js';
import { SECTIONS } from './schema.js';

/** One row that differs; `path` values are those of the canonical documents. */
export interface RowChange {
  readonly change: 'added' | 'removed' | 'changed';
  readonly section: Section | 'scoring' | 'unresolvedPolicy';
  readonly name: string;
  /** changed: each value that differs, by its path inside the row; absent values are undefined. */
  readonly fields: readonly { readonly path: string; readonly before: unknown; readonly after: unknown }[];
}

type Rows = ReadonlyMap<string, unknown>;

function rowsOf(document: IntentDocument, section: Section): Rows {
  const rows: readonly { name: string }[] = document[section] ?? [];
  return new Map(rows.map((row) => [row.name, row]));
}

function fieldsOf(before: unknown, after: unknown, path = ''): RowChange['fields'] {
  if (canonicalJson(before ?? null) === canonicalJson(after ?? null)) return [];
  const isMapping = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isMapping(before) || !isMapping(after)) return [{ path, before, after }];
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return keys.flatMap((key) => fieldsOf(before[key], after[key], path === '' ? key : `${path}.${key}`));
}

function diffRows(section: RowChange['section'], before: Rows, after: Rows): RowChange[] {
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names.flatMap((name): RowChange[] => {
    if (!before.has(name)) return [{ change: 'added', section, name, fields: [] }];
    if (!after.has(name)) return [{ change: 'removed', section, name, fields: [] }];
    const fields = fieldsOf(before.get(name), after.get(name));
    return fields.length === 0 ? [] : [{ change: 'changed', section, name, fields }];
  });
}

/** Rows that `after` adds, removes or changes, in the order of the document's sections and of names; null is the empty intent. */
export function diffIntent(before: Intent | null, after: Intent): RowChange[] {
  const [a, b] = [before === null ? null : toDocument(before), toDocument(after)];
  const none: Rows = new Map();
  const rows = SECTIONS.flatMap((section) =>
    diffRows(section, a === null ? none : rowsOf(a, section), rowsOf(b, section)),
  );
  const scoring = diffRows(
    'scoring',
    new Map(Object.entries(a?.scoring ?? {})),
    new Map(Object.entries(b.scoring ?? {})),
  );
  const fields = a === null ? [] : fieldsOf(a.unresolvedPolicy, b.unresolvedPolicy);
  const policy: RowChange[] =
    fields.length === 0 ? [] : [{ change: 'changed', section: 'unresolvedPolicy', name: '', fields }];
  return [...rows, ...scoring, ...policy];
}
