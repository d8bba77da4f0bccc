// SPDX-License-Identifier: Apache-2.0
/** `get scores`: what is published for each node, and how one node's score comes about. */
import { StatsCollectorClient, stateKey } from '@detour/contracts';
import { Fault } from '@detour/core';
import { hasLevel, scoringOf } from '@detour/intent';
import { askAll, askOnce } from './ask.js';
import { isBoolean, isNumber, isText, member } from './get-state.js';
import { type Column, formatAge, viewRows } from './render.js';
import type { Answer, Query, Resource } from './resource.js';

interface ScoreRow {
  readonly node: string;
  readonly score: number | null;
  readonly fresh: boolean | null;
  readonly why: string;
  readonly atMs: number | null;
}

const SCORE_COLUMNS: readonly Column<ScoreRow>[] = [
  ['NODE', (row) => row.node],
  ['SCORE', (row) => (row.score === null ? null : Number(row.score.toFixed(3)))],
  ['FRESH', (row) => row.fresh],
  ['WHY', (row) => row.why],
  ['PUBLISHED', (row) => (row.atMs === null ? null : `${formatAge(Date.now() - row.atMs)} ago`)],
];

export const scoresResource: Resource = {
  summary: 'scores of nodes, as published; with --explain NODE the formula, its inputs and why',
  filters: ['node', 'explain'],
  load: async (query) => {
    const { cluster, filters, current } = query;
    if (filters.explain !== undefined) return explain(query, filters.explain);
    const rows = (current?.intent.nodes ?? [])
      .filter((node) => filters.node === undefined || node.name === filters.node)
      .map(({ name }): ScoreRow => {
        const value = cluster.mirror.get(stateKey.score(name))?.value;
        return {
          node: name,
          score: member(value, 'score', isNumber),
          fresh: member(value, 'fresh', isBoolean),
          why: member(value, 'why', isText) ?? (value === undefined ? 'no score is published yet' : ''),
          atMs: member(value, 'atMs', isNumber),
        };
      });
    return { view: viewRows(rows, SCORE_COLUMNS), missing: [] };
  },
};

/** One node as a stats-collector sees it. */
interface ExplainedRow {
  readonly by: string;
  readonly node: string;
  readonly score: number;
  readonly fresh: boolean;
  /** QoS levels that the score gives it, of its own scoring policy. */
  readonly levels: readonly string[];
  readonly formula: string;
  readonly inputs: Readonly<Record<string, number>>;
  /** What the formula is given instead of an input, where the policy smooths. */
  readonly smoothed: Readonly<Record<string, number>>;
  /** Whose word each input is. */
  readonly sources: Readonly<Record<string, string>>;
  readonly why: string;
}

const EXPLAINED_COLUMNS: readonly Column<ExplainedRow>[] = [
  ['BY', (row) => row.by],
  ['NODE', (row) => row.node],
  ['SCORE', (row) => row.score],
  ['FRESH', (row) => row.fresh],
  ['LEVELS', (row) => row.levels],
  ['FORMULA', (row) => row.formula],
  [
    'INPUTS',
    (row) => Object.entries(row.inputs).map(([name, value]) => inputText(name, value, row.smoothed[name])),
  ],
  ['WHY', (row) => row.why],
];

/** `cpu=0.9 (0.4 smoothed)`. */
function inputText(name: string, raw: number, smoothed: number | undefined): string {
  const text = `${name}=${Number(raw.toPrecision(6))}`;
  return smoothed === undefined ? text : `${text} (${Number(smoothed.toPrecision(6))} smoothed)`;
}

async function explain({ cluster, current }: Query, name: string): Promise<Answer> {
  const node = current?.intent.nodes.find((one) => one.name === name);
  if (current === null || node === undefined)
    throw new Fault('not_found', `no node "${name}" is declared: see detour get nodes`);
  const scoring = scoringOf(current.intent, node);
  const instances = cluster.instances('stats-collector');
  const { answers, missing } = await askAll(instances, StatsCollectorClient, (client) =>
    askOnce(client.getScores.bind(client), { node: name }),
  );
  const rows = answers.flatMap(({ instance, answer }) =>
    answer.scores.map(
      ({ node: of, score, fresh, formula, inputs, smoothed, sources, why }): ExplainedRow => ({
        ...{ by: instance.id, node: of, score, fresh, formula, inputs, smoothed, sources, why },
        levels: Object.keys(scoring?.levels ?? {})
          .filter((level) => hasLevel(scoring, level, score))
          .sort(),
      }),
    ),
  );
  const nobody = 'no stats-collector is registered: nobody can explain a score now';
  return { view: viewRows(rows, EXPLAINED_COLUMNS), missing: instances.length === 0 ? [nobody] : missing };
}
