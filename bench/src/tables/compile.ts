// SPDX-License-Identifier: Apache-2.0
/**
 * compile.rules: from rows as they come to a table in the datapath's memory, as a gateway does it with each version: apply the difference, validate,
 * digest, bring the image up to date, copy the lines that a half lacks. compile.change is one rule of 10,000 (and 100,000) changed. Mixed rules are
 * what costs most: nested prefixes, port ranges, ports of entry.
 */

import type { RuleRow } from '@detour/contracts';
import {
  applyDelta,
  copyLines,
  diffRules,
  LINE_WORDS,
  RuleImage,
  ruleDigests,
  ruleValidator,
} from '@detour/tables';
import type { Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { cpuMs } from '../simulate/cpu-time.js';
import { makeMixedRules } from './mixed-rules.js';
import { makeRules } from './rule-set.js';

const SHAPES = [
  { name: '10k', size: 10_000, make: makeRules },
  { name: '100k', size: 100_000, make: makeRules },
  { name: '100k mixed', size: 100_000, make: makeMixedRules },
] as const;
const LINES = 524_288; // DETOUR_RULE_LINES by default

export const compile: Benchmark = {
  name: 'compile',
  what: '10k and 100k rules validated, digested and compiled; one rule of them changed',
  run: async (context) => {
    const figures: Figure[] = [];
    for (const { name, size, make } of SHAPES) {
      const rules = make(size);
      let gateway = new TableKeeper();
      const samples = await measureRounds(context, `compile.rules, ${name}`, {
        all: () => {
          gateway = new TableKeeper();
          return Promise.resolve(timed(() => gateway.take(rules, true)));
        },
        change: () => {
          const changed = rules.slice(size / 2, size / 2 + 1).map((rule) => ({ ...rule, priority: 7 }));
          gateway.copyIdle(); // as after each flip
          return Promise.resolve(timed(() => gateway.take(changed, false)));
        },
      });
      figures.push(
        valueFigure({
          name: `compile.rules[${name}]`,
          unit: 'ms',
          values: samples.of('all'),
          ...(size === 100_000 ? { goal: { of: 'value', atMost: 2_000 } as const } : {}),
        }),
        valueFigure({
          name: `compile.change[${name}]`,
          unit: 'ms',
          values: samples.of('change'),
          goal: { of: 'value', atMost: 50 },
        }),
      );
    }
    return figures;
  },
};

/** CPU time: what else the machine does counts little. */
function timed(work: () => void): number {
  return cpuMs(work)[1];
}

/** What a gateway holds of one rule table; memory of the datapath's size, and in two halves, as there. */
class TableKeeper {
  readonly #image = new RuleImage({ copies: 2 });
  readonly #memory = new Uint32Array(2 * LINES * LINE_WORDS);
  readonly #validate = ruleValidator();
  readonly #digest = ruleDigests();
  #rows: readonly RuleRow[] = [];
  #half: 0 | 1 = 0;

  take(upserts: readonly RuleRow[], full: boolean): void {
    const rows = applyDelta(this.#rows, { upserts, removes: [], full });
    const validation = this.#validate(rows);
    if (!validation.ok) throw new RangeError(JSON.stringify(validation));
    this.#digest(rows);
    this.#image.apply(diffRules(this.#rows, rows));
    this.#rows = rows;
    this.copyIdle();
  }

  copyIdle(): void {
    this.#half = this.#half === 0 ? 1 : 0;
    const changes = this.#image.changes(this.#half);
    if (this.#image.lines > LINES) throw new RangeError(`${this.#image.lines} lines, room for ${LINES}`);
    copyLines(changes, this.#memory, this.#half * LINES * LINE_WORDS);
  }
}
