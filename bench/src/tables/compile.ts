// SPDX-License-Identifier: Apache-2.0
/**
 * compile.rules: from rows as they come to a table that answers, as a gateway does it with each version: apply the difference, validate, digest,
 * compile. compile.change is one rule of 10,000 (and 100,000) changed.
 */

import type { RuleRow } from '@detour/contracts';
import { applyDelta, digestRules, RuleImage, validateRules } from '@detour/tables';
import type { Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { makeRules } from './rule-set.js';

const SIZES = [10_000, 100_000] as const;

export const compile: Benchmark = {
  name: 'compile',
  what: '10k and 100k rules validated, digested and compiled; one rule of them changed',
  run: async (context) => {
    const figures: Figure[] = [];
    for (const size of SIZES) {
      const rules = makeRules(size);
      const samples = await measureRounds(context, `compile.rules, ${size} rules`, {
        all: () => Promise.resolve(timed(() => bringIntoForce([], rules, true))),
        change: () => {
          const changed = rules.slice(size / 2, size / 2 + 1).map((rule) => ({ ...rule, priority: 7 }));
          return Promise.resolve(timed(() => bringIntoForce(rules, changed, false)));
        },
      });
      figures.push(
        valueFigure({
          name: `compile.rules[${size / 1000}k]`,
          unit: 'ms',
          values: samples.of('all'),
          ...(size === 100_000 ? { goal: { of: 'value', atMost: 2_000 } as const } : {}),
        }),
        valueFigure({
          name: `compile.change[${size / 1000}k]`,
          unit: 'ms',
          values: samples.of('change'),
          ...(size === 10_000 ? { goal: { of: 'value', atMost: 50 } as const } : {}),
        }),
      );
    }
    return figures;
  },
};

function timed(work: () => void): number {
  const from = performance.now();
  work();
  return performance.now() - from;
}

function bringIntoForce(before: readonly RuleRow[], upserts: readonly RuleRow[], full: boolean): void {
  const rows = applyDelta(before, { upserts, removes: [], full });
  const validation = validateRules(rows);
  if (!validation.ok) throw new RangeError(JSON.stringify(validation));
  digestRules(rows);
  RuleImage.of(rows);
}
