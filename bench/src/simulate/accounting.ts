// SPDX-License-Identifier: Apache-2.0
// The quantities of the simulator, each a pure function of what was counted: imbalance, and how much changes hands beside how much must.

/** How much more the most loaded one has than its share: 0.01 is 1 % over the ideal. Those with an ideal of 0 are left out; 0 when nothing is there. */
export function worstOver(loads: ArrayLike<number>, ideals: ArrayLike<number>): number {
  const load = sum(loads);
  const ideal = sum(ideals);
  let worst = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < ideals.length; i++) {
    const due = (ideals[i] ?? 0) / ideal;
    if (due > 0) worst = Math.max(worst, (loads[i] ?? 0) / load / due - 1);
  }
  return Number.isFinite(worst) ? worst : 0;
}

/** The part of all load that is not where it ideally were: 0.01 is 1 % of the flows. */
export function misplaced(loads: ArrayLike<number>, ideals: ArrayLike<number>): number {
  return leastMoves(ideals, loads);
}

/** The part that must change hands when shares become others: what those that gain gain. Both in any unit. 0 when either side has nothing. */
export function leastMoves(before: ArrayLike<number>, after: ArrayLike<number>): number {
  const [was, is] = [sum(before), sum(after)];
  if (was === 0 || is === 0) return 0;
  let gained = 0;
  for (let i = 0; i < Math.max(before.length, after.length); i++)
    gained += Math.max(0, (after[i] ?? 0) / is - (before[i] ?? 0) / was);
  return gained;
}

/** The part of a table's slots that name another path than before. A table without slots has nothing to move. */
export function tableMoves(before: Uint16Array, after: Uint16Array): number {
  if (before.length === 0 || after.length === 0) return 0;
  let moved = 0;
  for (const [slot, path] of after.entries()) if (before[slot] !== path) moved++;
  return moved / after.length;
}

export interface PinMoves {
  /** Flows whose path was down. */
  readonly ofDown: number;
  /** Flows whose path was not: there must be none. */
  readonly others: number;
}

/** Flows that have another path than before. */
export function pinMoves(
  before: Uint16Array,
  after: Uint16Array,
  isDown: (path: number) => boolean,
): PinMoves {
  let ofDown = 0;
  let others = 0;
  for (const [flow, path] of before.entries()) {
    if (after[flow] === path) continue;
    if (isDown(path)) ofDown++;
    else others++;
  }
  return { ofDown, others };
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i] ?? 0;
  return total;
}
