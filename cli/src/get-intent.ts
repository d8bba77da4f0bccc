// SPDX-License-Identifier: Apache-2.0
/** `get intent` and `get revisions`: the document in force, and what was in force before. */
import { toDocument } from '@detour/intent';
import { stringify } from 'yaml';
import { findRevision, loadCurrent, walkHistory } from './history.js';
import { type Column, viewRows } from './render.js';
import type { Resource } from './resource.js';

export const intentResource: Resource = {
  summary: 'the intent document in force, or that of --revision, every default written out',
  filters: ['revision'],
  load: async ({ cluster, filters }) => {
    const { revision } =
      filters.revision === undefined
        ? await loadCurrent(cluster)
        : await findRevision(cluster, filters.revision);
    const document = toDocument(revision.intent);
    return { view: { data: document, table: stringify(document, { lineWidth: 120 }) }, missing: [] };
  },
};

interface RevisionRow {
  readonly revision: number;
  readonly at: string;
  readonly author: string;
  readonly note: string;
  readonly sha256: string;
}

const REVISION_COLUMNS: readonly Column<RevisionRow>[] = [
  ['REVISION', (row) => row.revision],
  ['AT', (row) => row.at],
  ['AUTHOR', (row) => row.author],
  ['NOTE', (row) => row.note],
  ['SHA-256', (row) => row.sha256.slice(0, 12)],
];

const DEFAULT_REVISIONS = 20;

export const revisionsResource: Resource = {
  summary: `the last ${DEFAULT_REVISIONS} revisions (--limit), newest first`,
  filters: ['limit'],
  load: async ({ cluster, filters }) => {
    const rows: RevisionRow[] = [];
    for await (const { name, revision } of walkHistory(cluster)) {
      rows.push({
        revision: name.revision,
        at: revision.at,
        author: revision.author,
        note: revision.note,
        sha256: name.sha256,
      });
      if (rows.length >= (filters.limit ?? DEFAULT_REVISIONS)) break;
    }
    return { view: viewRows(rows, REVISION_COLUMNS, 'no intent is applied yet'), missing: [] };
  },
};
