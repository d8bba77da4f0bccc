// SPDX-License-Identifier: Apache-2.0
// The one error class: a closed code to switch on, a sentence that names the thing, the value and the remedy, and the cause.

/** Every way in which an operation can fail, as callers may tell them apart. */
export const FAULT_CODES = [
  'invalid', // what was given is wrong: refused whole
  'not_found',
  'conflict', // somebody else changed it first
  'unavailable', // a process or server that is needed does not answer
  'timeout',
  'missing_feature', // the kernel or machine lacks something
  'permission',
  'exhausted', // a limit is reached
  'refused', // understood, and not accepted (a NACK)
  'internal',
] as const;
export type FaultCode = (typeof FAULT_CODES)[number];

/** An error with a closed code. `detail` is a full sentence: the thing, the value, the remedy. */
export class Fault extends Error {
  readonly code: FaultCode;
  readonly detail: string;
  constructor(code: FaultCode, detail: string, cause?: unknown) {
    super(detail, cause === undefined ? undefined : { cause });
    this.name = 'Fault';
    this.code = code;
    this.detail = detail;
  }
}

/** The text of anything that was thrown. */
export function describeError(error: unknown): string {
  if (error instanceof Fault) return `${error.code}: ${error.detail}`;
  if (error instanceof Error) return error.message;
  return String(error);
}
