// SPDX-License-Identifier: Apache-2.0
// An alarm for each node that is down, until it is not; AdminDown is nobody's failure and raises none.

import type { AlarmBook } from '@detour/bus';
import type { HealthBoard, HealthNews } from './health-board.js';

/** Alarm code: a node does not answer, or does not forward. Its subject is the node's name. */
export const nodeDownAlarm = 'node_down';

/** Follows a board until it is disposed of. */
export class NodeAlarms implements Disposable {
  readonly #book: Pick<AlarmBook, 'raise' | 'clear'>;
  readonly #off: () => void;
  #raised = new Set<string>();

  constructor(board: Pick<HealthBoard, 'listen'>, book: Pick<AlarmBook, 'raise' | 'clear'>) {
    this.#book = book;
    this.#off = board.listen((news) => this.#take(news));
  }

  #take({ complete, rows }: HealthNews): void {
    const named = new Set(rows.map(({ node }) => node));
    for (const node of complete ? [...this.#raised] : []) if (!named.has(node)) this.#clear(node);
    for (const { node, state, why } of rows) {
      if (state === 'down') {
        this.#raised.add(node);
        this.#book.raise(nodeDownAlarm, node, `node ${node} is down: ${why}`);
      } else this.#clear(node);
    }
  }

  #clear(node: string): void {
    if (this.#raised.delete(node)) this.#book.clear(nodeDownAlarm, node);
  }

  [Symbol.dispose](): void {
    this.#off();
  }
}
