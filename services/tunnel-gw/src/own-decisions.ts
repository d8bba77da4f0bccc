// SPDX-License-Identifier: Apache-2.0
// What this gateway itself says of flows, from the tables in force and from its own history: whole decisions where nobody else answers, and
// what controllers leave to it.
import {
  choosePathLocally,
  decideLocally,
  type FlowDecision,
  type FlowQuestion,
  forwardTuple,
} from './decision.js';
import type { GatewayCore } from './gateway-core.js';
import type { ChainModel } from './model.js';
import type { PathChoices } from './path-choices.js';

export class OwnDecisions {
  constructor(
    private readonly core: Pick<GatewayCore, 'liveTables' | 'running'>,
    private readonly choices: PathChoices,
  ) {}

  /**
   * From the tables in force; null before there are any. `history`: where the chain's `select` goes by earlier choices, whether this is one
   * of them; if not, the path is that of the flow's slot.
   */
  decide(question: FlowQuestion, { history = true } = {}): FlowDecision | null {
    const tables = this.core.liveTables;
    if (tables === null) return null;
    const decision = decideLocally(tables, question);
    if (!history) return decision;
    const chain = decision.action === 'steer' ? tables.chains.get(decision.chain) : undefined;
    if (chain === undefined || chain.history === null) return decision;
    return { ...decision, path: this.choices.choose(chain, question, tables.hashKey) };
  }

  chainOf(number: number): ChainModel | undefined {
    return this.core.liveTables?.chains.get(number);
  }

  /** Whether a path may be used now at this gateway. */
  isUsable(chain: number, path: number): boolean {
    return this.chainOf(chain)?.paths.find((one) => one.number === path)?.up === true;
  }

  /** What unresolvedPolicy says of a rule whose chain does not exist. True also for a rule that is not known here: nothing passes by mistake. */
  dropsUnresolved(rule: number): boolean {
    return this.core.running?.ruleRows.find((row) => row.number === rule)?.dropUnresolved ?? true;
  }

  /** The path that this gateway's history prefers: the path-selector, which has none, then only looks for a pin. */
  prefer(chain: number, question: FlowQuestion, reversed: boolean): number {
    const row = this.chainOf(chain);
    return row !== undefined && (row.keepsTier || row.history !== null)
      ? this.choose(chain, question, reversed)
      : 0;
  }

  /** This gateway's own choice; 0: no path can be chosen. */
  choose(chain: number, question: FlowQuestion, reversed: boolean): number {
    const tables = this.core.liveTables;
    const row = tables?.chains.get(chain);
    if (tables === null || row === undefined) return 0;
    return row.history === null
      ? choosePathLocally(row, forwardTuple(question, reversed), tables.hashKey)
      : this.choices.choose(row, question, tables.hashKey);
  }
}
