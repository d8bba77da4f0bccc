// SPDX-License-Identifier: Apache-2.0
// New flows' paths where this gateway's history decides (round-robin, random, least-flows): one choice for each question, whoever answers
// it in the end, and taken back when the flow goes another way.
import type { HashKey } from '@detour/core';
import { historySeed, PathHistory } from '@detour/tables';
import type { FlowQuestion } from './decision.js';
import type { ChainModel } from './model.js';

interface Choice {
  readonly chain: number;
  readonly path: number;
}

export class PathChoices {
  private readonly histories = new Map<number, PathHistory>();
  private readonly open = new WeakMap<FlowQuestion, Choice>();

  constructor(private readonly gateway: string) {}

  /** The path for a flow of a chain with a history; 0 when none takes new flows. Asked again about the same question: the same. */
  choose({ number, history, paths }: ChainModel, question: FlowQuestion, hashKey: HashKey): number {
    if (history === null) throw new TypeError(`chain ${number} has no history: its slots decide`);
    const members = paths.map((path) => ({ path: path.number, weight: path.weight }));
    const held = this.open.get(question);
    if (held?.chain === number && members.some(({ path, weight }) => path === held.path && weight > 0))
      return held.path;
    if (held !== undefined) this.histories.get(held.chain)?.giveBack(held.path);
    const path = this.historyOf(number, hashKey).choose(history, members);
    this.open.set(question, { chain: number, path });
    return path;
  }

  /** The question is answered: the flow goes by this path, 0 if by none. */
  settle(question: FlowQuestion, path: number): void {
    const held = this.open.get(question);
    if (held === undefined) return;
    this.open.delete(question);
    if (held.path !== path) this.histories.get(held.chain)?.giveBack(held.path);
  }

  /** Call when a count of flows begins; what it returns takes flows by path. */
  beginCount(): (flows: ReadonlyMap<number, number>) => void {
    const ends = [...this.histories.values()].map((history) => history.beginCount());
    return (flows) => {
      for (const end of ends) end(flows);
    };
  }

  private historyOf(chain: number, hashKey: HashKey): PathHistory {
    const held = this.histories.get(chain);
    if (held !== undefined) return held;
    const made = new PathHistory(historySeed(hashKey, this.gateway, chain));
    this.histories.set(chain, made);
    return made;
  }
}
