// SPDX-License-Identifier: Apache-2.0
/** What an act of the story is, and how it says that something did not hold. */
import { Fault } from '@detour/core';
import type { Narrator } from './narrator.js';
import type { Stage } from './stage.js';

export interface Act {
  readonly number: number;
  readonly title: string;
  play(stage: Stage, tell: Narrator): Promise<void>;
}

/** @throws Fault `internal` with the sentence, unless it holds. */
export function expectThat(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Fault('internal', otherwise);
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

export function ms(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

/** 12,345 */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}
