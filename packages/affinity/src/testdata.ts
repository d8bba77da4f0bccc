// SPDX-License-Identifier: Apache-2.0
// What several tests of this package need.
import type { FlowRecord } from '@detour/contracts';
import type { Affinity } from './affinity.js';
import type { Answer } from './link.js';

export const pin = (path: number, gen = 1): FlowRecord => ({ gen, path, chain: 2, initiatorIsB: false });

/** @throws why there is no value */
export function granted<T>(answer: Answer<T> | undefined): T {
  if (answer?.ok !== true) throw new Error(answer?.why ?? 'no answer');
  return answer.value;
}

export async function lookUpOne(affinity: Affinity, key: string): Promise<Answer<FlowRecord | null>> {
  const [answer] = await affinity.lookUp([key]);
  return answer ?? { ok: false, why: 'no answer' };
}
