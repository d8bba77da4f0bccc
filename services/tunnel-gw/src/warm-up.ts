// SPDX-License-Identifier: Apache-2.0
// The first failover of a process must not pay for cold code: what it runs through is run before, on tables that nobody sees. Measured:
// the first expansion of a chain of 10 paths takes 13 ms, the thirtieth 0.7 ms.
import { setFlagsFromString } from 'node:v8';
import { AffinityKind, ChainRow, OnFailure, OnNodeDown, OnRuleChange, SelectPolicy } from '@detour/contracts';
import { type BankStore, Banks } from './bank.js';
import { ChainModels } from './chain-models.js';

const ROUNDS = 40;
/** On a busy machine a slow start is worse than a slow failover. */
const AT_MOST_MS = 500;

const ROW = ChainRow.fromPartial({
  number: 1,
  onFailure: OnFailure.DROP,
  onNodeDown: OnNodeDown.REBALANCE,
  onRuleChange: OnRuleChange.REVALIDATE,
  affinity: AffinityKind.FIVE_TUPLE,
  select: SelectPolicy.WEIGHTED,
  paths: [1, 2, 3, 4].map((number) => ({ number, nodes: [number], weight: 100 * number, fallbackWeight: 1 })),
});

/** Returns the milliseconds that the first and the last round took. */
export function warmUp(monoMs: () => number): { firstMs: number; lastMs: number } {
  // What has not run for a while would be thrown away, and compiled again in the next failover
  setFlagsFromString('--no-flush-bytecode');
  const models = new ChainModels(new Map());
  let bank = 0;
  const nowhere: BankStore = {
    write: () => {},
    remove: () => {},
    wipe: () => {},
    pointRules: () => {},
    readBank: () => bank,
    flip: (to) => {
      bank = to;
    },
  };
  let turns = 0;
  const banks = new Banks({ store: nowhere, monoMs: () => ++turns, wipe: false }); // no reader to wait for
  const beganMs = monoMs();
  let firstMs = 0;
  let lastMs = 0;
  for (let round = 0; round < ROUNDS && monoMs() - beganMs < AT_MOST_MS; round++) {
    const fromMs = monoMs();
    const draft = models.draft([ROW], (node) => (node === (round % 4) + 1 ? 'down' : 'up'));
    banks.publish(draft.rows, 1);
    models.commit(draft);
    banks.mirror();
    lastMs = monoMs() - fromMs;
    if (round === 0) firstMs = lastMs;
  }
  return { firstMs, lastMs };
}
