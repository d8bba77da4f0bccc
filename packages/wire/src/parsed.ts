// SPDX-License-Identifier: Apache-2.0
/** The answer of every parser here: a value, or which rule the bytes broke and what was found. Parsers never throw. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: string; readonly got: string };

/** A parsed header and the bytes behind it (a view, not a copy). */
export interface Layer<H> {
  readonly header: H;
  readonly payload: Uint8Array;
}

export function accept<T>(value: T): Parsed<T> {
  return { ok: true, value };
}

export function refuse(why: string, got: string | number): { ok: false; why: string; got: string } {
  return { ok: false, why, got: String(got) };
}
