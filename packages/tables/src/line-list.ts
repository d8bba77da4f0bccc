// SPDX-License-Identifier: Apache-2.0
// Lists in an image: lines one after the other, each with a count and the next line (datapath/include/abi-rules.h).
import { abi } from '@detour/contracts';
import { LINE_WORDS, type LineSpace } from './line-space.js';

const LIST = abi.RulesList;

/** Writes records of `width` words each, `perLine` to a line; the first line, or 0 when there are none. */
export function writeList(
  space: LineSpace,
  records: readonly (readonly number[])[],
  { width, perLine }: { readonly width: number; readonly perLine: number },
): number {
  let next = 0;
  for (let from = Math.floor((records.length - 1) / perLine) * perLine; from >= 0; from -= perLine) {
    const line = space.alloc(1);
    const at = line * LINE_WORDS;
    const here = records.slice(from, from + perLine);
    space.words[at + LIST.RULES_LIST_COUNT] = here.length;
    space.words[at + LIST.RULES_LIST_NEXT] = next;
    for (const [i, record] of here.entries()) space.words.set(record, at + LIST.RULES_LIST_AT + i * width);
    next = line;
  }
  return next;
}

export function releaseList(space: LineSpace, first: number): void {
  for (let line = first; line !== 0; ) {
    const next = space.words[line * LINE_WORDS + LIST.RULES_LIST_NEXT] ?? 0;
    space.release(line, 1);
    line = next;
  }
}

export const ELEMENT_LIST = { width: 1, perLine: LIST.RULES_LIST_ELEMENTS } as const;
export const SHORT_LIST = { width: LIST.RULES_SHORT_WORDS, perLine: LIST.RULES_LIST_SHORTS } as const;
export const CONDITION_LIST = {
  width: LIST.RULES_CONDITION_WORDS,
  perLine: LIST.RULES_LIST_CONDITIONS,
} as const;
