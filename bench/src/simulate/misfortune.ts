// SPDX-License-Identifier: Apache-2.0
// What goes wrong in the course of the day, each at its time by the clock: racks that go down or are drained, and single nodes, one after the other.
import type { Clock } from '@detour/core';
import type { Random } from './random.js';
import type { Mishap, Size } from './sizes.js';
import type { World } from './world.js';

export interface MisfortuneOptions {
  readonly size: Size;
  readonly world: World;
  readonly clock: Clock;
  /** Which single nodes go down. */
  readonly random: Random;
  /** These went down, or came back, just now. */
  readonly onDown: (name: string, nodes: readonly number[]) => void;
  readonly onUp: (nodes: readonly number[]) => void;
}

export class Misfortune {
  /** For how many reasons a node is down, or drained: a rack may go down while a node of it is down. */
  private readonly down = new Map<number, number>();
  private readonly drained = new Map<number, number>();

  constructor(private readonly options: MisfortuneOptions) {
    const { size, world, clock, random } = options;
    const { nodeDownEveryMs, nodeDownMs, endMs } = size;
    for (const mishap of size.mishaps) this.schedule(mishap, nodesOf(world, mishap));
    for (let at = nodeDownEveryMs; at < endMs; at += nodeDownEveryMs) {
      const node = 1 + random.below(world.nodes.size);
      clock.after(at, () => this.begin('down', 'a node', [node]));
      clock.after(at + nodeDownMs, () => this.end('down', [node]));
    }
  }

  isUp(node: number): boolean {
    return (this.down.get(node) ?? 0) === 0;
  }

  isDrained(node: number): boolean {
    return (this.drained.get(node) ?? 0) > 0;
  }

  private schedule({ what, name, fromMs, toMs }: Mishap, nodes: readonly number[]): void {
    this.options.clock.after(fromMs, () => this.begin(what, name, nodes));
    this.options.clock.after(toMs, () => this.end(what, nodes));
  }

  private begin(what: Mishap['what'], name: string, nodes: readonly number[]): void {
    this.count(what, nodes, 1);
    if (what === 'down') this.options.onDown(name, nodes);
  }

  private end(what: Mishap['what'], nodes: readonly number[]): void {
    this.count(what, nodes, -1);
    if (what === 'down') this.options.onUp(nodes.filter((node) => this.isUp(node)));
  }

  private count(what: Mishap['what'], nodes: readonly number[], by: number): void {
    const counts = what === 'down' ? this.down : this.drained;
    for (const node of nodes) counts.set(node, (counts.get(node) ?? 0) + by);
  }
}

function nodesOf(world: World, { racks }: Mishap): number[] {
  return racks.flatMap((rack) => world.racks[rack] ?? []);
}
