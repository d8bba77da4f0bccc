// SPDX-License-Identifier: Apache-2.0
/** Commands about the document: check, diff, apply, rollback. */
import {
  diffIntent,
  formatProblem,
  type Intent,
  type ParseResult,
  type Problem,
  parseIntent,
  type RowChange,
} from '@detour/intent';
import { withSpan } from '@detour/telemetry';
import { type Published, publishIntent } from './apply.js';
import { authorOf, type Cluster, openCluster } from './cluster.js';
import { type Console, readDocument } from './console.js';
import { EXIT } from './exit-codes.js';
import { findRevision, loadHead, loadRevision } from './history.js';
import { type Format, render, renderTable, type View } from './render.js';
import { type GatewayProgress, waitForGateways } from './wait.js';

/** `FILE: 2 problems` and each problem on its line. */
function problemsText(file: string, problems: readonly Problem[]): string {
  const count = `${file}: ${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}; nothing was changed\n`;
  return `${problems.map((problem) => `${formatProblem(problem)}\n`).join('')}${count}`;
}

async function readIntent(console: Console, file: string, partial: boolean): Promise<ParseResult> {
  const text = await readDocument(console, file);
  const result = parseIntent(text, file === '-' ? '(standard input)' : file, partial ? 'partial' : 'whole');
  if (result.ok) {
    for (const warning of result.warnings) console.err(`warning: ${formatProblem(warning)}\n`);
    for (const left of result.refused) console.err(`left out: ${formatProblem(left)}\n`);
  }
  return result;
}

/** What is wrong, to the standard error or, for programs, to the standard output. */
function reportProblems(
  console: Console,
  file: string,
  format: Format,
  problems: readonly Problem[],
): number {
  if (format === 'table') console.err(problemsText(file, problems));
  else console.out(render({ data: { ok: false, problems }, table: '' }, format));
  return EXIT.document;
}

const SECTION_WORDS: readonly (readonly [keyof Intent, string])[] = [
  ['vrfs', 'VRFs'],
  ['gateways', 'gateways'],
  ['hosts', 'hosts'],
  ['services', 'services'],
  ['nodes', 'nodes'],
  ['chains', 'chains'],
  ['rules', 'rules'],
];

/** `detour check`: needs no cluster. */
export async function check(
  console: Console,
  options: { file: string; partial: boolean; output: Format },
): Promise<number> {
  const result = await readIntent(console, options.file, options.partial);
  if (!result.ok) return reportProblems(console, options.file, options.output, result.problems);
  const counts = SECTION_WORDS.map(
    ([section, word]) => [word, Object.keys(result.intent[section]).length] as const,
  );
  const text = counts
    .filter(([, count]) => count > 0)
    .map(([word, count]) => `${count} ${word}`)
    .join(', ');
  const data = {
    ok: true,
    warnings: result.warnings,
    refused: result.refused,
    counts: Object.fromEntries(counts),
  };
  console.out(
    render({ data, table: `${options.file} is correct: ${text === '' ? 'empty' : text}\n` }, options.output),
  );
  return EXIT.ok;
}

const MARKS = { added: '+', removed: '-', changed: '~' } as const;

/** Changes as lines: `~ nodes fw1` and each value that differs below it. */
export function changesText(changes: readonly RowChange[]): string {
  if (changes.length === 0) return 'no difference\n';
  const value = (inner: unknown): string => (inner === undefined ? '(absent)' : JSON.stringify(inner));
  return changes
    .map(({ change, section, name, fields }) => {
      const details = fields.map(
        (field) =>
          `    ${field.path === '' ? '' : `${field.path}: `}${value(field.before)} → ${value(field.after)}\n`,
      );
      return `${MARKS[change]} ${section}${name === '' ? '' : ` ${name}`}\n${details.join('')}`;
    })
    .join('');
}

/** `detour diff`: what apply would change. */
export async function diff(
  console: Console,
  options: { file: string; partial: boolean; output: Format },
): Promise<number> {
  const result = await readIntent(console, options.file, options.partial);
  if (!result.ok) return reportProblems(console, options.file, options.output, result.problems);
  await using cluster = await openCluster(console);
  const head = await loadHead(cluster);
  const before = head === null ? null : await loadRevision(cluster, head);
  const changes = diffIntent(before?.intent ?? null, result.intent);
  console.out(
    render({ data: { revision: head?.revision ?? 0, changes }, table: changesText(changes) }, options.output),
  );
  return EXIT.ok;
}

export interface WaitOptions {
  readonly wait: boolean;
  readonly timeoutMs: number;
  readonly output: Format;
}

/** What `apply -o json` and `rollback -o json` give. */
interface Outcome extends Published {
  readonly refused: readonly Problem[];
  /** Empty without --wait. */
  readonly gateways: readonly GatewayProgress[];
}

function viewOutcome({ gateways, ...published }: Outcome): View {
  const first = published.changed
    ? `revision ${published.revision} is in force\n`
    : `no change: revision ${published.revision} stays in force\n`;
  const table = renderTable<GatewayProgress>(
    [
      ['GATEWAY', (row) => row.name],
      ['STATE', (row) => row.state],
      ['RUNS', (row) => (row.running === 0 ? null : row.running)],
      ['WHY', (row) => row.why],
    ],
    gateways,
  );
  return { data: { ...published, gateways }, table: gateways.length === 0 ? first : `${first}${table}` };
}

async function finish(
  console: Console,
  cluster: Cluster,
  done: { published: Published; intent: Intent; refused: readonly Problem[]; options: WaitOptions },
): Promise<number> {
  const { published, intent, refused, options } = done;
  const { timeoutMs, output } = options;
  const want = { intent, revision: published.revision, timeoutMs, signal: console.signal };
  const gateways = options.wait
    ? await withSpan('wait for gateways', {}, () => waitForGateways(cluster, want))
    : [];
  console.out(render(viewOutcome({ ...published, refused, gateways }), output));
  const named = (state: GatewayProgress['state']): string[] =>
    gateways.filter((one) => one.state === state).map(({ name }) => name);
  for (const one of gateways.filter(({ state }) => state === 'refused'))
    console.err(
      `detour: ${one.name} refused revision ${published.revision} and keeps ${one.running}: ${one.why}\n`,
    );
  const late = [...named('pending'), ...named('absent')].sort();
  if (late.length > 0)
    console.err(
      `detour: after ${timeoutMs / 1000} s these do not run revision ${published.revision}: ${late.join(', ')}\n`,
    );
  if (named('refused').length > 0) return EXIT.refused;
  return late.length > 0 ? EXIT.timeout : EXIT.ok;
}

/** `detour apply`. */
export async function apply(
  console: Console,
  options: WaitOptions & { file: string; partial: boolean },
): Promise<number> {
  const result = await readIntent(console, options.file, options.partial);
  if (!result.ok) return reportProblems(console, options.file, options.output, result.problems);
  const { intent, refused } = result;
  await using cluster = await openCluster(console);
  const note = refused.length === 0 ? '' : `partial: ${refused.length} problems left out`;
  const published = await publishIntent(cluster, {
    intent,
    author: authorOf(console.env),
    note,
    always: false,
  });
  // Awaited here: the cluster is closed on return.
  return await finish(console, cluster, { published, intent, refused, options });
}

/** `detour rollback`: a new revision with the document of an earlier one. */
export async function rollback(
  console: Console,
  options: WaitOptions & { revision: number },
): Promise<number> {
  await using cluster = await openCluster(console);
  const { revision } = await findRevision(cluster, options.revision);
  const { intent } = revision;
  const note = `rollback to ${options.revision}`;
  const published = await publishIntent(cluster, {
    intent,
    author: authorOf(console.env),
    note,
    always: true,
  });
  // Awaited here: the cluster is closed on return.
  return await finish(console, cluster, { published, intent, refused: [], options });
}
