// SPDX-License-Identifier: Apache-2.0
/** References of rows whose shape is wrong: named along with the rest, so that one reading of the report is enough. */

import { checkReference } from './check-names.js';
import { type Draft, type Report, valueAt } from './draft.js';
import type { Section } from './schema.js';

/** A row that its schema refused, as written. */
export interface MalformedRow {
  readonly section: Section;
  readonly index: number;
  readonly name: string;
  readonly raw: unknown;
}

/** Where rows name rows of other sections; `*` stands for every element of a list or key of a mapping. */
const REFERENCES: readonly { from: Section; path: readonly string[]; to: Section; atKey?: true }[] = [
  { from: 'gateways', path: ['ports', '*', 'vrf'], to: 'vrfs' },
  { from: 'hosts', path: ['guests', '*', 'vrf'], to: 'vrfs' },
  { from: 'nodes', path: ['service'], to: 'services' },
  { from: 'nodes', path: ['health'], to: 'healthProfiles' },
  { from: 'nodes', path: ['attach', 'vrf'], to: 'vrfs' },
  { from: 'nodes', path: ['attach', 'host'], to: 'hosts' },
  { from: 'nodes', path: ['attach', 'gateway'], to: 'gateways' },
  { from: 'nodes', path: ['attach', 'gateways', '*'], to: 'gateways', atKey: true },
  { from: 'nodes', path: ['attach', 'vrfs', '*'], to: 'vrfs', atKey: true },
  { from: 'chains', path: ['hops', '*'], to: 'services' },
  { from: 'chains', path: ['hops', '*', 'service'], to: 'services' },
  { from: 'chains', path: ['onFailure', 'backup'], to: 'chains' },
  { from: 'rules', path: ['match', 'vrf'], to: 'vrfs' },
  { from: 'rules', path: ['action', 'chain'], to: 'chains' },
];

function expand(raw: unknown, path: readonly string[]): PropertyKey[][] {
  const [first, ...rest] = path;
  if (first === undefined) return [[]];
  if (typeof raw !== 'object' || raw === null) return [];
  const all: readonly PropertyKey[] = Array.isArray(raw) ? [...raw.keys()] : Object.keys(raw);
  const keys = first === '*' ? all : all.filter((key) => key === first);
  return keys.flatMap((key) => expand(valueAt(raw, [key]), rest).map((tail) => [key, ...tail]));
}

/** Reports names in malformed rows that nothing declares. */
export function checkMalformed(draft: Draft, report: Report, rows: readonly MalformedRow[]): void {
  for (const { section, index, name, raw } of rows) {
    for (const { from, path: pattern, to, atKey } of REFERENCES) {
      if (from !== section) continue;
      for (const path of expand(raw, pattern)) {
        const value = valueAt(raw, path);
        const isKey = atKey === true && typeof value === 'object' && value !== null;
        const target = isKey ? String(path.at(-1)) : value;
        if (typeof target !== 'string' || draft.declared[to].has(target)) continue;
        const placed = { index, row: { name } };
        checkReference(draft, report, { from, placed, path, to, name: target, ...(isKey ? { atKey } : {}) });
      }
    }
  }
}
