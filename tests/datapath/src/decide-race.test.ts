// SPDX-License-Identifier: Apache-2.0
// Rules change while packets are being decided: whatever a record says was decided by the rules in force was decided by them. What was decided by
// the rules before says so, and is looked at again.
import { mapArray, progTestRunAsync } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { afterAll, expect, it } from 'vitest';
import { CHAIN, PATH } from './ends.js';
import { clearFlows, clientFrame, flowKey, readFlow } from './flow-records.js';
import { openRig } from './rig.js';
import { rule, writeRules } from './rig-rules.js';
import { publishAll, putChain } from './world.js';

const rig = openRig();
const rules = mapArray(rig.map('rules'));
const control = mapArray(rig.map('control'));
afterAll(() => {
  rules.close();
  control.close();
  rig[Symbol.dispose]();
});

const LINES = rig.map('rules').maxEntries >>> 1;
const TRIALS = 2_500;
/** Packets on their way at once. */
const PACKETS = 8;
/** The rule of each bank's table. */
const RULE_OF_BANK = [1, 2] as const;
const device = { ifindex: rig.ifindex.inside };
const frameOf = (srcPort: number): Uint8Array =>
  clientFrame({ transport: { kind: 'tcp', srcPort, dstPort: 443, flags: 2 } });

/** What comes one after the other in the gateway: the other bank with its rules, then the generation. */
function flip(): void {
  const { view } = control;
  const { bank, rulesGen } = abi.control.offsets;
  view.setUint32(bank, 1 - view.getUint32(bank, true), true);
  view.setUint32(rulesGen, view.getUint32(rulesGen, true) + 1, true);
}

it('a record of the generation in force has the rule of the table in force, however a flip falls among packets', {
  timeout: 60_000,
}, async () => {
  publishAll(rig);
  for (const bank of [0, 1] as const) {
    putChain(rig, bank, CHAIN.two, [PATH.one, PATH.two], { decides: abi.ChainDecides.DECIDES_ANY });
    const only = rule(RULE_OF_BANK[bank], {
      destinationPorts: [{ first: 443, last: 443 }],
      chain: CHAIN.two,
    });
    writeRules(rules, LINES, bank === 0 ? 1 : 2, [only]);
  }
  rig.control({
    ...{ rulesHalf: Uint32Array.of(1, 2), rulesLines: LINES, askShare: 0 },
    ...{ beginRate: 1_000_000, beginBurst: 1_000_000 },
  });
  let [old, current] = [0, 0];
  const wrong: abi.Flow[] = [];
  for (let trial = 0; trial < TRIALS; trial++) {
    clearFlows(rig);
    const sports = Array.from({ length: PACKETS }, (_, i) => 1_024 + i);
    const sent = Promise.all(
      sports.map((sport) => progTestRunAsync(rig.program, { data: frameOf(sport), ctx: device })),
    );
    for (let spin = (trial * 7) % 400; spin > 0; spin--) performance.now(); // at another moment each time
    flip();
    await sent;
    const now = abi.control.decode(control.element(0));
    for (const sport of sports) {
      const flow = readFlow(rig, flowKey({ sport }).key, 'embryos');
      if (flow.rulesGen !== now.rulesGen) old++;
      else {
        current++;
        if (flow.rule !== RULE_OF_BANK[now.bank & 1]) wrong.push(flow);
      }
    }
  }
  console.info(`${old} of the generation before, ${current} of the one in force`);
  expect(wrong).toEqual([]);
  for (const some of [old, current]) expect(some).toBeGreaterThan(100);
});
