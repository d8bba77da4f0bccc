// SPDX-License-Identifier: Apache-2.0
// News that may come by the thousand and are dealt with together: what is due at once is done in the same turn of the event loop, and what came
// while that took its time is done once more, so that it takes half the time at most.

/** `deal` gets everything that was added since it was last called, in its order. */
export class Gathered<Item> implements Disposable {
  private items: Item[] = [];
  private immediate: NodeJS.Immediate | null = null;
  private timer: NodeJS.Timeout | null = null;
  private freeAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly deal: (items: readonly Item[]) => void,
    private readonly monoMs: () => number = () => performance.now(),
  ) {}

  add(item: Item): void {
    this.items.push(item);
    if (this.immediate !== null || this.timer !== null) return;
    const waitMs = this.freeAtMs - this.monoMs();
    if (waitMs > 0) this.timer = setTimeout(() => this.flush(), waitMs);
    else this.immediate = setImmediate(() => this.flush());
  }

  private flush(): void {
    this.immediate = null;
    this.timer = null;
    const items = this.items;
    this.items = [];
    const before = this.monoMs();
    try {
      this.deal(items);
    } finally {
      const after = this.monoMs();
      this.freeAtMs = after + (after - before);
    }
  }

  /** What has not been dealt with is forgotten. */
  [Symbol.dispose](): void {
    clearImmediate(this.immediate ?? undefined);
    clearTimeout(this.timer ?? undefined);
    this.items = [];
  }
}
