// SPDX-License-Identifier: Apache-2.0
/** What is served: GetScores (what each node is worth, and why) and ReportAttributes (what nodes and gateways measured). */
import { NodeScore, type ScoreValue, StatsCollectorService } from '@detour/contracts';
import { implement, type ServiceImplementation, unary } from '@detour/rpc';
import type { Collector, Explanation } from './collector.js';

export interface GrpcSpec {
  readonly collector: Collector;
  readonly published: (node: string) => ScoreValue | null;
  readonly onReport: (refused: number) => void;
}

export function statsCollectorService({ collector, published, onReport }: GrpcSpec): ServiceImplementation {
  return implement(StatsCollectorService, {
    getScores: unary(async ({ node }) => ({
      scores: collector
        .explain()
        .filter((one) => node === '' || one.node === node)
        .map((one) => toNodeScore(one, published(one.node))),
    })),
    reportAttributes: unary(async ({ node, reporter, gateway, atMs, attributes }) => {
      const refused = collector.takeReport({
        ...{ node, reporter, gateway },
        atMs: Number(atMs),
        attributes: Object.entries(attributes),
      });
      onReport(refused.length);
      return { refused };
    }),
  });
}

/** The published score is the one in force; `why` says where the node stands now, too. */
export function toNodeScore(one: Explanation, published: ScoreValue | null): NodeScore {
  const { node, formula, evaluation, lastFailure } = one;
  const notes = [evaluation.why];
  if (evaluation.kind === 'scored' && published !== null && evaluation.score !== published.score)
    notes.unshift(`now ${evaluation.score}, within the hysteresis of what is published`);
  if (published === null) notes.unshift('nothing is published yet');
  if (lastFailure !== null) notes.push(`the last scrape: ${lastFailure}`);
  return NodeScore.fromPartial({
    node,
    score: published?.score ?? 0,
    fresh: published?.fresh ?? false,
    formula,
    inputs: { ...evaluation.inputs },
    smoothed: { ...evaluation.smoothed },
    sources: { ...evaluation.sources },
    why: notes.filter((note) => note !== '').join('; '),
    atMs: BigInt(Math.round(published?.atMs ?? 0)),
  });
}
