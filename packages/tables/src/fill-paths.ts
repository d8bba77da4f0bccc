// SPDX-License-Identifier: Apache-2.0
// How much each path carries when its nodes are shared: all paths are filled at once, each at its own pace, and a path stops growing as soon
// as one of its nodes carries what it is worth. Pure, and the same in whatever order paths and nodes come (ADR 0023).

/** A path to fill: its nodes, and how fast it grows relative to the others; 0: it carries nothing. */
export interface FilledPath {
  readonly nodes: readonly number[];
  readonly pace: number;
}

/** What is left of a node's worth counts as nothing below this part of it: sums of doubles are not exact. */
const FULL = 1e-9;

/** What each path carries, in the unit of worths: no node carries more than it is worth, and no path could carry more alone. */
export function fillPaths(paths: readonly FilledPath[], worthOf: (node: number) => number): number[] {
  const carried = paths.map(() => 0);
  const worths = new Map(paths.flatMap(({ nodes }) => nodes.map((node) => [node, worthOf(node)] as const)));
  const left = new Map(worths);
  const isFull = (node: number) => (left.get(node) ?? 0) <= FULL * (worths.get(node) ?? 0);
  for (;;) {
    const growing = paths.flatMap(({ nodes, pace }, at) =>
      pace > 0 && !nodes.some(isFull) ? [{ at, nodes, pace }] : [],
    );
    if (growing.length === 0) return carried;
    const paces = new Map<number, number>();
    for (const { nodes, pace } of growing)
      for (const node of nodes) paces.set(node, (paces.get(node) ?? 0) + pace);
    const time = Math.min(...[...paces].map(([node, pace]) => (left.get(node) ?? 0) / pace));
    for (const { at, pace } of growing) carried[at] = (carried[at] ?? 0) + time * pace;
    for (const [node, pace] of paces) {
      const rest = (left.get(node) ?? 0) - time * pace;
      left.set(node, rest <= FULL * (worths.get(node) ?? 0) ? 0 : rest);
    }
  }
}
