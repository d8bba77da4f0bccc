// SPDX-License-Identifier: Apache-2.0
/** Prints the story: a heading for each act, a line for each step with its measured figure, progress for what takes long. */
import { describeError } from '@detour/core';

/** Says how far a step is; shown while it takes longer than two seconds. */
export type Progress = (text: string) => void;

export interface Narrator {
  act(number: number, title: string): void;
  /**
   * Runs one step and prints its line: what held, and the figure that `work` resolves with.
   * @throws what `work` throws, after its line was printed.
   */
  step(what: string, work: (progress: Progress) => Promise<string>): Promise<void>;
  /** The same for a step whose outcome later ones need. */
  step<T>(
    what: string,
    work: (progress: Progress) => Promise<readonly [figure: string, outcome: T]>,
  ): Promise<T>;
  /** Runs something that is no step of the story to its end, signal or not, with progress. */
  during<T>(what: string, work: (progress: Progress) => Promise<T>): Promise<T>;
  /** Lines below a step, indented. */
  show(text: string): void;
  line(text: string): void;
}

/** What the narrator writes on; `process.stdout` fits. */
export interface Paper {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const quietMs = 2_000;
const againMs = { terminal: 250, file: 5_000 } as const;
const eraseLine = '\r\u001b[2K';

/** @param signal ends a step that is under way; its work goes on unheard until its resources are closed. */
export function makeNarrator(paper: Paper, signal: AbortSignal): Narrator {
  const isTerminal = paper.isTTY === true;
  const paint = (code: number, text: string): string =>
    isTerminal ? `\u001b[${code}m${text}\u001b[0m` : text;
  let act = 0;
  let steps = 0;

  /** Shows how long it takes, from the third second on, until `end`. */
  const showProgress = (what: string): { readonly progress: Progress; readonly end: () => void } => {
    const startMs = performance.now();
    let detail = '';
    let isShown = false;
    const tick = (): void => {
      const text = `  … ${what}${detail && `: ${detail}`} (${Math.round((performance.now() - startMs) / 1_000)} s)`;
      paper.write(isTerminal ? `${eraseLine}${paint(2, text.slice(0, 160))}` : `${text}\n`);
      isShown = true;
      timer = setTimeout(tick, isTerminal ? againMs.terminal : againMs.file);
    };
    let timer = setTimeout(tick, quietMs);
    return {
      progress: (text) => {
        detail = text;
      },
      end: () => {
        clearTimeout(timer);
        if (isShown && isTerminal) paper.write(eraseLine);
      },
    };
  };
  const during = async <T>(what: string, work: (progress: Progress) => Promise<T>): Promise<T> => {
    const { progress, end } = showProgress(what);
    try {
      return await work(progress);
    } finally {
      end();
    }
  };
  return {
    during,
    act(number, title) {
      act = number;
      steps = 0;
      paper.write(`\n${paint(1, `${number} ${title}`)}\n`);
    },
    async step<T>(
      what: string,
      work: (progress: Progress) => Promise<string | readonly [figure: string, outcome: T]>,
    ) {
      steps += 1;
      const number = `${act}.${steps}`;
      signal.throwIfAborted();
      try {
        const told = await during(what, (progress) => unlessAborted(work(progress), signal));
        const [figure, outcome] = typeof told === 'string' ? [told, undefined as T] : told;
        paper.write(`  ${paint(32, '✓')} ${number} ${what}: ${figure}\n`);
        return outcome;
      } catch (error) {
        if (!signal.aborted) paper.write(`  ${paint(31, '✗')} ${number} ${what}: ${describeError(error)}\n`);
        throw error;
      }
    },
    show(text) {
      for (const line of text.trimEnd().split('\n')) paper.write(`        ${line}\n`);
    },
    line: (text) => paper.write(`${text}\n`),
  };
}

async function unlessAborted<T>(working: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = (): void => undefined;
  const stopped = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
  });
  signal.addEventListener('abort', stop);
  try {
    return await Promise.race([working, stopped]);
  } finally {
    working.catch(() => undefined); // told by the race, unless the signal won it
    signal.removeEventListener('abort', stop);
  }
}
