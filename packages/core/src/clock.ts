// SPDX-License-Identifier: Apache-2.0
// Time as a value that is handed in, so that unit tests turn it by hand.

/** A source of time and timers. `nowMs` is wall-clock milliseconds; `monoMs` never goes back. */
export interface Clock {
  nowMs(): number;
  monoMs(): number;
  /** Calls `fn` once after `delayMs`; the returned function cancels. */
  after(delayMs: number, fn: () => void): () => void;
}

/** The machine's own clock. Timers do not keep the process alive. */
export function systemClock(): Clock {
  return {
    nowMs: () => Date.now(),
    monoMs: () => performance.now(),
    after: (delayMs, fn) => {
      const timer = setTimeout(fn, delayMs);
      timer.unref();
      return () => clearTimeout(timer);
    },
  };
}

/** A clock that stands still until `advance` turns it; timers that fall due fire in order. */
export interface ManualClock extends Clock {
  advance(ms: number): void;
}

export function manualClock(startMs = 1_700_000_000_000): ManualClock {
  let mono = 0;
  let timers: { atMs: number; order: number; fn: () => void }[] = [];
  let order = 0;
  return {
    nowMs: () => startMs + mono,
    monoMs: () => mono,
    after: (delayMs, fn) => {
      const timer = { atMs: mono + Math.max(0, delayMs), order: order++, fn };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    advance: (ms) => {
      const end = mono + ms;
      for (;;) {
        const due = timers
          .filter((t) => t.atMs <= end)
          .sort((x, y) => x.atMs - y.atMs || x.order - y.order)[0];
        if (due === undefined) break;
        timers = timers.filter((t) => t !== due);
        mono = due.atMs;
        due.fn();
      }
      mono = end;
    },
  };
}
