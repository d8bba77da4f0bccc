// SPDX-License-Identifier: Apache-2.0
// What packages need of a logger, so that none of them depends on one.

/** Structured fields first, then one sentence (pino's order). */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** Says nothing: for tests and one-shot tools. */
export const silentLog: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
