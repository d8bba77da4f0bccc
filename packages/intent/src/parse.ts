// SPDX-License-Identifier: Apache-2.0
/** From the text of a document to a checked intent, or to everything that is wrong with it. */
import type { z } from 'zod';
import { checkChains } from './check-chains.js';
import { checkMalformed, type MalformedRow } from './check-malformed.js';
import { checkNames } from './check-names.js';
import { checkNodes } from './check-nodes.js';
import { checkPorts } from './check-ports.js';
import { checkRules } from './check-rules.js';
import { type Draft, type DraftRows, Report, valueAt, withoutRefused } from './draft.js';
import { knownKeysReader } from './json-schema.js';
import { MAX_PROBLEMS } from './limits.js';
import { fillDefaults, finishDraft } from './normalise.js';
import type { Problem, ProblemCode, RowRef } from './problem.js';
import { name as nameSchema } from './scalar.js';
import {
  API_VERSION,
  type Intent,
  ROW_SCHEMAS,
  type Scoring,
  SECTIONS,
  type Section,
  unresolvedPolicySchema,
} from './schema.js';
import { scoringSchema } from './schema-chain.js';
import { shapeProblems } from './shape-problem.js';
import { readSource, type Source } from './source.js';

/** whole: one problem refuses the document; partial: only the rows with problems are left out. */
export type ParseMode = 'whole' | 'partial';

export type ParseResult =
  | {
      readonly ok: true;
      readonly intent: Intent;
      readonly warnings: readonly Problem[];
      /** Partial mode: why rows were left out, or, for a rule whose chain is missing, left unresolved. */
      readonly refused: readonly Problem[];
    }
  | { readonly ok: false; readonly problems: readonly Problem[] };

const TOP_KEYS = ['apiVersion', ...SECTIONS, 'scoring', 'unresolvedPolicy'];

/** Reads the shape of each row by itself, so that one bad row does not hide what is wrong with others. */
class ShapeReader {
  readonly rowProblems: Problem[] = [];
  readonly documentProblems: Problem[] = [];
  readonly malformed: MalformedRow[] = [];
  private knownKeys: ReturnType<typeof knownKeysReader> | undefined;
  private readonly report: Report;

  constructor(private readonly source: Source) {
    this.report = new Report(source);
  }

  private issues(error: z.ZodError, base: readonly PropertyKey[], row: RowRef | undefined): Problem[] {
    const { data } = this.source;
    const reader = {
      valueAt: (path: readonly PropertyKey[]) => valueAt(data, path),
      keysAt: (path: readonly PropertyKey[]) => {
        this.knownKeys ??= knownKeysReader();
        return this.knownKeys(path, data);
      },
    };
    return error.issues.flatMap((issue) =>
      shapeProblems(issue, base, reader).map(({ code, path, key, message, remedy }) => {
        const finding = { code, message, remedy, ...(key === undefined ? {} : { atKey: true }) };
        return this.report.problemAt(key === undefined ? path : [...path, key], finding, row);
      }),
    );
  }

  private documentProblem(path: readonly PropertyKey[], message: string, remedy: string): void {
    this.documentProblems.push(
      this.report.problemAt(path, { code: 'wrong_shape', message, remedy }, undefined),
    );
  }

  /** Rows of a section that have the right shape, and the names that all of them declare. */
  section<S extends Section>(section: S): { rows: DraftRows[S]; declared: Set<string> } {
    const rows: unknown[] = [];
    const declared = new Set<string>();
    const list = valueAt(this.source.data, [section]) ?? [];
    if (!Array.isArray(list)) {
      this.documentProblem(
        [section],
        'is of the wrong type',
        'write a list of rows, each beginning with "- "',
      );
      return { rows: rows as DraftRows[S], declared };
    }
    for (const [index, raw] of list.entries()) {
      const named = nameSchema.safeParse(valueAt(raw, ['name']));
      if (named.success) declared.add(named.data);
      const parsed = ROW_SCHEMAS[section].safeParse(raw);
      if (parsed.success) {
        rows.push({ index, row: parsed.data });
        continue;
      }
      const name = named.success ? named.data : String(index);
      this.malformed.push({ section, index, name, raw });
      this.rowProblems.push(...this.issues(parsed.error, [section, index], { section, name, index }));
    }
    return { rows: rows as DraftRows[S], declared };
  }

  scoring(): Map<string, Scoring> {
    const policies = new Map<string, Scoring>();
    const raw = valueAt(this.source.data, ['scoring']) ?? {};
    if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
      this.documentProblem(['scoring'], 'is of the wrong type', 'write a mapping of policies by name');
      return policies;
    }
    for (const [key, value] of Object.entries(raw)) {
      const parsed = scoringSchema.safeParse(value);
      const named = nameSchema.safeParse(key);
      if (!named.success)
        this.documentProblem(
          ['scoring', key],
          'is under a key that is no name',
          named.error.issues[0]?.message ?? '',
        );
      else if (parsed.success) policies.set(key, parsed.data);
      else
        this.rowProblems.push(
          ...this.issues(parsed.error, ['scoring', key], { section: 'scoring', name: key }),
        );
    }
    return policies;
  }

  top(): 'drop' | 'allow' {
    const { data } = this.source;
    if (typeof data !== 'object' || data === null || Array.isArray(data)) {
      this.documentProblem([], 'the document is no mapping', `begin with apiVersion: ${API_VERSION}`);
      return 'drop';
    }
    const version = valueAt(data, ['apiVersion']);
    if (version !== API_VERSION)
      this.documentProblem(
        ['apiVersion'],
        version === undefined ? 'is missing' : 'is not known here',
        `write apiVersion: ${API_VERSION}`,
      );
    for (const key of Object.keys(data)) {
      if (TOP_KEYS.includes(key)) continue;
      const issue: z.core.$ZodIssue = { code: 'unrecognized_keys', keys: [key], path: [], message: '' };
      const reader = { valueAt: () => undefined, keysAt: () => TOP_KEYS };
      const [problem] = shapeProblems(issue, [], reader);
      if (problem !== undefined)
        this.documentProblems.push(this.report.problemAt([key], { ...problem, atKey: true }, undefined));
    }
    const policy = unresolvedPolicySchema.safeParse(valueAt(data, ['unresolvedPolicy']));
    if (policy.success) return policy.data;
    this.documentProblems.push(...this.issues(policy.error, ['unresolvedPolicy'], undefined));
    return 'drop';
  }
}

function readDraft(reader: ShapeReader): Draft {
  const unresolvedPolicy = reader.top();
  const vrfs = reader.section('vrfs');
  const groups = reader.section('groups');
  const gateways = reader.section('gateways');
  const hosts = reader.section('hosts');
  const healthProfiles = reader.section('healthProfiles');
  const services = reader.section('services');
  const nodes = reader.section('nodes');
  const chains = reader.section('chains');
  const rules = reader.section('rules');
  const declared: Draft['declared'] = {
    vrfs: vrfs.declared,
    groups: groups.declared,
    gateways: gateways.declared,
    hosts: hosts.declared,
    healthProfiles: healthProfiles.declared,
    services: services.declared,
    nodes: nodes.declared,
    chains: chains.declared,
    rules: rules.declared,
  };
  const rows: DraftRows = {
    vrfs: vrfs.rows,
    groups: groups.rows,
    gateways: gateways.rows,
    hosts: hosts.rows,
    healthProfiles: healthProfiles.rows,
    services: services.rows,
    nodes: nodes.rows,
    chains: chains.rows,
    rules: rules.rows,
  };
  return fillDefaults({ rows, declared, scoring: reader.scoring(), unresolvedPolicy });
}

function checkDraft(draft: Draft, source: Source): Report {
  const report = new Report(source);
  checkNames(draft, report);
  checkNodes(draft, report, checkPorts(draft, report));
  checkChains(draft, report);
  checkRules(draft, report);
  return report;
}

/** In the order of the text, each once, and no more than a person can read. */
function tidy(problems: readonly Problem[]): Problem[] {
  const unique = new Map(
    problems.map((problem) => [`${problem.path} ${problem.code} ${problem.remedy}`, problem]),
  );
  const sorted = [...unique.values()].sort((a, b) => a.line - b.line || a.column - b.column);
  const last = sorted[MAX_PROBLEMS - 1];
  if (last === undefined || sorted.length === MAX_PROBLEMS) return sorted;
  const message = `and ${sorted.length - MAX_PROBLEMS} problems more`;
  const { row: _row, ...place } = last;
  return [
    ...sorted.slice(0, MAX_PROBLEMS),
    {
      ...place,
      code: 'too_many_problems',
      path: '',
      value: '',
      message,
      remedy: 'correct those above first',
    },
  ];
}

/** A rule without its chain is not left out in partial mode: its packets follow unresolvedPolicy (VRFC-3). */
function staysUnresolved(problem: Problem): boolean {
  return (
    problem.row?.section === 'rules' &&
    problem.path.endsWith('.action.chain') &&
    (problem.code === 'unknown_reference' || problem.code === 'refused_reference')
  );
}

/** Removes rows with problems until what is left has none. */
function keepValid(first: Draft, source: Source, shape: readonly Problem[]): ParseResult {
  const refused = [...shape];
  let draft = first;
  for (;;) {
    const { problems, warnings } = checkDraft(draft, source);
    refused.push(...problems);
    const leaving = problems.filter((problem) => !staysUnresolved(problem));
    if (leaving.length === 0)
      return { ok: true, intent: finishDraft(draft), warnings: tidy(warnings), refused: tidy(refused) };
    draft = withoutRefused(draft, leaving);
  }
}

/**
 * Parses and checks a document. All problems are reported at once, in the order of the text; never throws.
 * `fileName` is what problems call the file.
 */
export function parseIntent(text: string, fileName: string, mode: ParseMode = 'whole'): ParseResult {
  const read = readSource(text, fileName);
  if (!read.ok) return { ok: false, problems: tidy(read.problems) };
  const reader = new ShapeReader(read.source);
  const draft = readDraft(reader);
  if (reader.documentProblems.length > 0 && mode === 'partial')
    return { ok: false, problems: tidy(reader.documentProblems) };
  if (mode === 'partial') return keepValid(draft, read.source, reader.rowProblems);
  const report = checkDraft(draft, read.source);
  checkMalformed(draft, report, reader.malformed);
  // What a refused row brings down with it is no problem of its own here: the row itself is reported.
  const echoes: ProblemCode[] = ['refused_reference'];
  if (reader.rowProblems.some(({ row }) => row?.section === 'nodes'))
    echoes.push('service_without_nodes', 'chain_not_in_vrf');
  const found = report.problems.filter(({ code }) => !echoes.includes(code));
  const problems = tidy([...reader.documentProblems, ...reader.rowProblems, ...found]);
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, intent: finishDraft(draft), warnings: tidy(report.warnings), refused: [] };
}
