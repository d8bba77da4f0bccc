// SPDX-License-Identifier: Apache-2.0
// When a process must stop, and how: signals, uncaught errors, a shutdown that hangs.
import { describeError, Fault } from '@detour/core';
import type { Logger } from 'pino';
import { exitCodeOf } from './exit-codes.js';

export interface ProcessLifeSpec {
  readonly name: string;
  readonly log: Logger;
  /** Milliseconds that a shutdown may take. */
  readonly stopWithinMs: number;
  /** What is being closed at this moment, for the line that says what hangs. */
  readonly closing: () => string | null;
}

export interface ProcessLife extends Disposable {
  readonly signal: AbortSignal;
  /** Resolves when the process must stop. */
  readonly stopped: Promise<void>;
  /** Stops it; with an error, the exit code says so. */
  stop(why: string, error?: unknown): void;
}

/** Keeps the event loop alive until a signal, an uncaught error or `stop`. */
export function startProcessLife({ name, log, stopWithinMs, closing }: ProcessLifeSpec): ProcessLife {
  const life = new AbortController();
  const alive = setInterval(() => {}, 60_000);
  const stop = (why: string, error?: unknown) => {
    if (error !== undefined) {
      process.exitCode = exitCodeOf(error);
      const code = error instanceof Fault ? error.code : 'internal';
      log.error({ code, stack: stackOf(error) }, `${why}: ${describeError(error)}`);
    } else if (!life.signal.aborted) log.info({}, `stopping: ${why}`);
    life.abort(new Fault('unavailable', `${name} is stopping: ${why}`));
  };
  const onSignal = (signal: NodeJS.Signals) => {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal); // a second one ends the process at once
    stop(signal);
  };
  const onUncaught = (error: unknown) => stop('uncaught error', defectOf(error));
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  process.on('uncaughtException', onUncaught).on('unhandledRejection', onUncaught);

  const stopped = new Promise<void>((resolve) => {
    life.signal.addEventListener('abort', () => {
      clearInterval(alive);
      const hung = setTimeout(() => {
        const what = closing() ?? 'the start-up, or a handle that nobody closes';
        log.error({ resource: what }, `shutdown hangs: ${what}; ending the process`);
        process.kill(process.pid, 'SIGKILL');
      }, stopWithinMs);
      hung.unref();
      resolve();
    });
  });
  return {
    signal: life.signal,
    stopped,
    stop,
    [Symbol.dispose]: () => process.off('SIGINT', onSignal).off('SIGTERM', onSignal),
  };
}

const stackOf = (error: unknown): string | undefined =>
  error instanceof Error && !(error instanceof Fault) ? error.stack : undefined;

/** An uncaught Fault is a defect, whatever its code says: exit code 1. */
function defectOf(error: unknown): Error {
  if (error instanceof Fault) return new Error(error.detail, { cause: error });
  return error instanceof Error ? error : new Error(String(error));
}
