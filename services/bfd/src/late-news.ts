// SPDX-License-Identifier: Apache-2.0
// The board's news a little later, for those whom no packet waits for: the copy in the state bucket and alarms set NATS and every watcher of
// the bucket going, and on a busy machine that would be in the way of the one reader who acts on the news, tunnel-gw.
import type { Clock } from '@detour/core';
import type { HealthBoard, HealthNews } from './health-board.js';

/** Long enough for tunnel-gw to have acted; short beside what the bucket's readers need to follow. */
const LATER_MS = 10;

export class LateNews {
  constructor(
    private readonly board: HealthBoard,
    private readonly clock: Clock,
  ) {}

  get settled(): boolean {
    return this.board.settled;
  }

  /** As HealthBoard.listen, in the same order and with nothing left out. */
  listen(listener: (news: HealthNews) => void): () => void {
    const waiting: HealthNews[] = [];
    let cancel: (() => void) | null = null;
    const tell = () => {
      cancel = null;
      for (const news of waiting.splice(0)) listener(news);
    };
    const off = this.board.listen((news) => {
      waiting.push(news);
      cancel ??= this.clock.after(LATER_MS, tell);
    });
    return () => {
      off();
      cancel?.();
    };
  }
}
