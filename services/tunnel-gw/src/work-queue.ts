// SPDX-License-Identifier: Apache-2.0
// Work in the order in which it came: so much at once, so much waiting, and no more.

export interface WorkQueueOptions<Item> {
  readonly atOnce: number;
  readonly waiting: number;
  readonly work: (item: Item) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

export class WorkQueue<Item> {
  private readonly items: Item[] = [];
  private head = 0;
  private underWay = 0;

  constructor(private readonly options: WorkQueueOptions<Item>) {}

  /** What waits and what is under way. */
  get size(): number {
    return this.items.length - this.head + this.underWay;
  }

  /** False when there is no room: nothing is done about this item. */
  add(item: Item): boolean {
    if (this.items.length - this.head >= this.options.waiting) return false;
    this.items.push(item);
    this.next();
    return true;
  }

  private next(): void {
    while (this.underWay < this.options.atOnce && this.head < this.items.length) {
      const item = this.items[this.head++];
      if (this.head === this.items.length || this.head >= 4_096) {
        this.items.splice(0, this.head); // in steps: moving a long array for each item would take seconds
        this.head = 0;
      }
      if (item === undefined) continue;
      this.underWay++;
      this.options
        .work(item)
        .catch(this.options.onError)
        .finally(() => {
          this.underWay--;
          this.next();
        });
    }
  }
}
