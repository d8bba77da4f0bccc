// SPDX-License-Identifier: Apache-2.0
/** One named fault of `make mutate`. */
export interface Fault {
  readonly name: string;
  readonly what: string;
  readonly file: string;
  /** Text that occurs in the file once. */
  readonly find: string;
  readonly put: string;
  /** Path of the test that must notice, and which of its tests, as a regular expression; default all. */
  readonly test: string;
  readonly pattern?: string;
}
export declare const FAULTS: readonly Fault[];
