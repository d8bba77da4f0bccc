// SPDX-License-Identifier: Apache-2.0
/** A document whose rows have the right shape but whose references are not checked yet, with where each row stands. */
import type { Problem, ProblemCode, RowRef } from './problem.js';
import { formatPath, formatValue } from './problem.js';
import type {
  Chain,
  Gateway,
  Group,
  HealthProfile,
  Host,
  Rule,
  Scoring,
  Section,
  Service,
  ServiceNode,
  Vrf,
} from './schema.js';
import { SECTIONS } from './schema.js';
import type { Source } from './source.js';

/** A row with its index in the document. */
export interface Placed<T> {
  readonly index: number;
  readonly row: T;
}

export interface DraftRows {
  vrfs: Placed<Vrf>[];
  groups: Placed<Group>[];
  gateways: Placed<Gateway>[];
  hosts: Placed<Host>[];
  healthProfiles: Placed<HealthProfile>[];
  services: Placed<Service>[];
  nodes: Placed<ServiceNode>[];
  chains: Placed<Chain>[];
  rules: Placed<Rule>[];
}

export interface Draft {
  readonly rows: DraftRows;
  readonly scoring: Map<string, Scoring>;
  readonly unresolvedPolicy: 'drop' | 'allow';
  /** Names that the text declares, also in rows that were refused. */
  readonly declared: Readonly<Record<Section, ReadonlySet<string>>>;
}

/** What a check says about a row. */
export interface Finding {
  readonly code: ProblemCode;
  readonly message: string;
  readonly remedy: string;
  /** The finding makes only this VRF's pair of a node unusable. */
  readonly vrf?: string;
  /** The position is that of the key at the path's end, not of its value. */
  readonly atKey?: boolean;
}

/** Collects findings as problems with positions. */
export class Report {
  readonly problems: Problem[] = [];
  readonly warnings: Problem[] = [];
  constructor(private readonly source: Source) {}

  /** A problem of a row, at a path inside it. */
  row(
    section: Section,
    placed: Placed<{ readonly name: string }>,
    path: readonly PropertyKey[],
    finding: Finding,
  ): void {
    const row: RowRef = {
      section,
      name: placed.row.name,
      index: placed.index,
      ...(finding.vrf === undefined ? {} : { vrf: finding.vrf }),
    };
    this.problems.push(this.problemAt([section, placed.index, ...path], finding, row));
  }

  /** Something that works, but perhaps not as meant. */
  warn(
    section: Section,
    placed: Placed<{ readonly name: string }>,
    path: readonly PropertyKey[],
    finding: Finding,
  ): void {
    this.warnings.push(this.problemAt([section, placed.index, ...path], finding, undefined));
  }

  /** A problem at a path of the whole document. */
  problemAt(path: readonly PropertyKey[], finding: Finding, row: RowRef | undefined): Problem {
    const last = String(path.at(-1) ?? '');
    const position =
      finding.atKey === true
        ? this.source.positionOfKey(path.slice(0, -1), last)
        : this.source.positionOf(path);
    return {
      code: finding.code,
      file: this.source.file,
      ...position,
      path: formatPath(path),
      value: finding.atKey === true ? '' : formatValue(valueAt(this.source.data, path)),
      message: finding.message,
      remedy: finding.remedy,
      ...(row === undefined ? {} : { row }),
    };
  }
}

/** The value at a path of plain data; undefined when there is none. */
export function valueAt(data: unknown, path: readonly PropertyKey[]): unknown {
  let here = data;
  for (const part of path) {
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, part)) return undefined;
    here = Reflect.get(here, part);
  }
  return here;
}

/** The same draft without the rows, or the VRFs of address pairs, that the problems name. */
export function withoutRefused(draft: Draft, problems: readonly Problem[]): Draft {
  const refused = new Set<string>();
  const pairs = new Set<string>();
  for (const { row } of problems) {
    if (row?.vrf !== undefined) pairs.add(`${row.name}/${row.vrf}`);
    else if (row !== undefined) refused.add(`${row.section}/${row.index ?? row.name}`);
  }
  const rows = { ...draft.rows };
  for (const section of SECTIONS) {
    const placed: readonly Placed<unknown>[] = rows[section];
    Object.assign(rows, { [section]: placed.filter(({ index }) => !refused.has(`${section}/${index}`)) });
  }
  rows.nodes = rows.nodes.flatMap((placed) => withoutPairs(placed, pairs));
  const scoring = new Map([...draft.scoring].filter(([name]) => !refused.has(`scoring/${name}`)));
  return { ...draft, rows, scoring };
}

function withoutPairs(placed: Placed<ServiceNode>, pairs: ReadonlySet<string>): Placed<ServiceNode>[] {
  const { attach, name } = placed.row;
  if (attach.kind !== 'l2pair') return [placed];
  const vrfs = Object.fromEntries(
    Object.entries(attach.vrfs).filter(([vrf]) => !pairs.has(`${name}/${vrf}`)),
  );
  if (Object.keys(vrfs).length === 0) return [];
  return [{ ...placed, row: { ...placed.row, attach: { ...attach, vrfs } } }];
}
