// SPDX-License-Identifier: Apache-2.0
/** Checks of names: unique among their kind, references that lead somewhere, and no more rows than tables hold. */
import type { Draft, Placed, Report } from './draft.js';
import { NUMBER_LIMITS } from './limits.js';
import { remedyFor } from './nearest.js';
import type { Section } from './schema.js';
import { SECTIONS } from './schema.js';

/** What a row of each section is called in messages. */
const ROW_WORDS: Record<Section, string> = {
  vrfs: 'VRF',
  groups: 'group',
  gateways: 'gateway',
  hosts: 'host',
  healthProfiles: 'health profile',
  services: 'service',
  nodes: 'node',
  chains: 'chain',
  rules: 'rule',
};

type NamedRow = Placed<{ readonly name: string }>;

/** Where a name stands that should lead to a row of another section. */
export interface Reference {
  readonly from: Section;
  readonly placed: NamedRow;
  readonly path: readonly PropertyKey[];
  readonly to: Section;
  readonly name: string;
  readonly vrf?: string;
  readonly atKey?: boolean;
}

/** True when the row exists; otherwise says so, or, for a row that was refused itself, that this one falls with it. */
export function checkReference(draft: Draft, report: Report, reference: Reference): boolean {
  const { from, placed, path, to, name } = reference;
  const rows: readonly NamedRow[] = draft.rows[to];
  if (rows.some(({ row }) => row.name === name)) return true;
  const word = ROW_WORDS[to];
  const extra = {
    ...(reference.vrf === undefined ? {} : { vrf: reference.vrf }),
    ...(reference.atKey === undefined ? {} : { atKey: reference.atKey }),
  };
  if (draft.declared[to].has(name)) {
    const message = `names the ${word} "${name}", which was refused`;
    report.row(from, placed, path, {
      code: 'refused_reference',
      message,
      remedy: `correct ${word} "${name}"`,
      ...extra,
    });
  } else {
    const message = `names the ${word} "${name}", which does not exist`;
    const remedy = remedyFor(word, name, [...draft.declared[to]]);
    report.row(from, placed, path, { code: 'unknown_reference', message, remedy, ...extra });
  }
  return false;
}

function checkUnique(
  section: Section,
  rows: readonly NamedRow[],
  report: Report,
  seen = new Map<string, string>(),
): void {
  for (const placed of rows) {
    const first = seen.get(placed.row.name);
    if (first === undefined) seen.set(placed.row.name, `${section}[${placed.index}]`);
    else
      report.row(section, placed, ['name'], {
        code: 'duplicate_name',
        message: `is already the name of ${first}`,
        remedy: 'give each its own name',
      });
  }
}

function checkInner(
  section: 'gateways' | 'hosts',
  placed: NamedRow,
  key: string,
  inner: readonly { name: string }[],
  report: Report,
) {
  const seen = new Set<string>();
  for (const [index, { name }] of inner.entries()) {
    if (seen.has(name)) {
      const message = `is the name of two ${key} of ${placed.row.name}`;
      report.row(section, placed, [key, index, 'name'], {
        code: 'duplicate_name',
        message,
        remedy: 'give each its own name',
      });
    }
    seen.add(name);
  }
  const over = inner.length - NUMBER_LIMITS.ports;
  if (over > 0) {
    const message = `has ${inner.length} ${key}; a machine can have ${NUMBER_LIMITS.ports}`;
    report.row(section, placed, [key], {
      code: 'too_many_rows',
      message,
      remedy: `remove ${over}, or use a second machine`,
    });
  }
}

/** Duplicate names, duplicate routing tables, and sections longer than their tables. */
export function checkNames(draft: Draft, report: Report): void {
  const machines = new Map<string, string>();
  for (const section of SECTIONS) {
    // Gateways and hosts share one set of names: rules say MACHINE/PORT.
    const shared = section === 'gateways' || section === 'hosts';
    checkUnique(section, draft.rows[section], report, shared ? machines : new Map());
  }
  for (const placed of draft.rows.gateways) checkInner('gateways', placed, 'ports', placed.row.ports, report);
  for (const placed of draft.rows.hosts) checkInner('hosts', placed, 'guests', placed.row.guests, report);
  const tables = new Map<number, string>();
  for (const placed of draft.rows.vrfs) {
    const first = tables.get(placed.row.table);
    if (first === undefined) tables.set(placed.row.table, placed.row.name);
    else
      report.row('vrfs', placed, ['table'], {
        code: 'duplicate_table',
        message: `is the routing table of VRF "${first}" too`,
        remedy: 'give each VRF its own table',
      });
  }
  for (const section of ['vrfs', 'services', 'nodes', 'chains', 'rules'] as const) {
    const limit = NUMBER_LIMITS[section];
    const rows: readonly NamedRow[] = draft.rows[section];
    for (const placed of rows.slice(limit)) {
      const message = `is one more than the ${limit} ${section} that the tables hold`;
      report.row(section, placed, ['name'], { code: 'too_many_rows', message, remedy: `keep to ${limit}` });
    }
  }
}
