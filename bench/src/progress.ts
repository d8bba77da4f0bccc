// SPDX-License-Identifier: Apache-2.0
// One line that says what is being measured right now; on a terminal it is rewritten in place.

export interface Progress {
  /** What goes on now. */
  step(text: string): void;
  /** A line that stays. */
  say(text: string): void;
  /** Takes the passing line away. */
  clear(): void;
}

/** Where lines stay, one says something about as often as this. */
const QUIET_MS = 5_000;

export function terminalProgress(out: NodeJS.WriteStream): Progress {
  const since = performance.now();
  let said = -QUIET_MS;
  const clear = (): void => {
    if (out.isTTY) out.write('\r\x1b[K');
  };
  return {
    step: (text) => {
      const seconds = ((performance.now() - since) / 1000).toFixed(0).padStart(4);
      if (out.isTTY) out.write(`\r\x1b[K\x1b[2m${seconds} s  ${text}\x1b[0m`);
      else if (performance.now() - said > QUIET_MS) {
        out.write(`${seconds} s  ${text}\n`);
        said = performance.now();
      }
    },
    say: (text) => {
      clear();
      out.write(`${text}\n`);
    },
    clear,
  };
}
