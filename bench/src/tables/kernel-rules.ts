// SPDX-License-Identifier: Apache-2.0
/** The datapath's rule look-up, timed in the kernel: a run over all packets, less the same run without look-ups. */
import type { Tuple } from '@detour/core';
import type { RuleImage } from '@detour/tables';
import { openRulesProbe } from './rules-probe.js';

const REPEAT = 4;

export interface KernelRules extends Disposable {
  /** Mean nanoseconds of one look-up. */
  measure(): number;
}

/** @throws RangeError when a packet matches no rule. `image` keeps one copy. */
export function openKernelRules(image: RuleImage, tuples: readonly Tuple[], port: number): KernelRules {
  const probe = openRulesProbe(image);
  for (const [i, tuple] of tuples.entries()) probe.put(i, { tuple, port });
  probe.run(tuples.length);
  for (let i = 0; i < tuples.length; i++) {
    const { rule, why } = probe.answer(i);
    if (rule === 0) throw new RangeError(`packet ${i} matched no rule (why ${why})`);
  }
  const run = (lookups: boolean): number => probe.run(tuples.length, { lookups, repeat: REPEAT });
  return {
    measure: () => run(true) - run(false),
    [Symbol.dispose]: () => probe[Symbol.dispose](),
  };
}
