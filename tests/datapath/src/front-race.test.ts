// SPDX-License-Identifier: Apache-2.0
// Several threads write the same place in front of the flow table all the time, one of them word by word and mixed up: each packet is still
// treated and counted as its own flow's.
import { mapArray, progTestRunAsync } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { afterAll, expect, it } from 'vitest';
import { clearFlows, clientFrame, putFlow } from './flow-records.js';
import { openRig, u32 } from './rig.js';
import { publishAll } from './world.js';

const rig = openRig({ sizes: { flow_front: 2 } });
const rows = mapArray(rig.map('flow_front'));
afterAll(() => {
  rows.close();
  rig[Symbol.dispose]();
});

const REPEAT = 20_000;
const CALLS = 10;
const FLOWS = 4; // in two rows
const WORDS = 8;
const TURN = 1_000;
const UNRESOLVED = abi.FlowWordFlag.WORD_FLAG_UNRESOLVED;
const device = { ifindex: rig.ifindex.inside };
const frameOf = (srcPort: number): Uint8Array =>
  clientFrame({ transport: { kind: 'tcp', srcPort, dstPort: 443, flags: 16 } });

/** On a thread of its own; dropped packets stay as they are, so that the same one can be sent over and over. */
async function run(sport: number): Promise<void> {
  for (let call = 0; call < CALLS; call++)
    await progTestRunAsync(rig.program, { data: frameOf(sport), ctx: device, repeat: REPEAT });
}

it('rows that several CPUs write at once are never mixed up', { timeout: 60_000 }, async () => {
  publishAll(rig);
  clearFlows(rig);
  const flows = Array.from({ length: FLOWS }, (_, i) => ({ sport: 40_001 + i, slot: 10 + i, rule: 100 + i }));
  for (const [i, flow] of flows.entries())
    putFlow(rig, { ...flow, action: abi.FlowAction.FLOW_DROP, flags: i % 2 === 0 ? 0 : UNRESOLVED });
  for (const { sport } of flows) rig.send('inside', frameOf(sport));
  const words = new BigUint64Array(rows.bytes.buffer, rows.bytes.byteOffset, 2 * WORDS);
  const whole = words.slice(); // of the first two flows
  const before = [rig.drops('DROP_RULE'), rig.drops('DROP_UNRESOLVED')];
  let left = FLOWS;
  const ended = Promise.all(flows.map(({ sport }) => run(sport).finally(() => left--)));
  for (let at = 0; left > 0; ) {
    for (let i = 0; i < TURN; i++) {
      at = (at * 5 + 3 + left) & 0xffff; // any order will do
      const word = (at >> 8) % WORDS;
      words[((at >> 4) & 1) * WORDS + word] = whole[((at >> 5) & 1) * WORDS + word] ?? 0n;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await ended;
  const each = BigInt(REPEAT * CALLS);
  const counted = flows.map(({ slot, rule }) => [
    abi.flowCounters.decode(rig.map('flow_counters').lookup(u32(slot)) ?? new Uint8Array()).packets[0],
    rig.count('rule_counters', rule, 0),
  ]);
  expect(counted).toEqual(flows.map(() => [each + 1n, each + 1n]));
  expect([rig.drops('DROP_RULE'), rig.drops('DROP_UNRESOLVED')]).toEqual(before.map((n) => n + 2n * each));
});
