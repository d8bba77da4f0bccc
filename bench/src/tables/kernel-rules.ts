// SPDX-License-Identifier: Apache-2.0
/** The datapath's rule look-up alone (datapath/rules_probe.bpf.c), timed in the kernel: a run over all packets, less the same run without look-ups. */
import { mapArray, openObject, progTestRun } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { normaliseTuple, type Tuple } from '@detour/core';
import { copyLines, type RuleImage } from '@detour/tables';
import { PROBE_OBJECT } from '../bpf-objects.js';

const REPEAT = 4;
/** Three words behind the Ethernet header, on a boundary: how many, from which, and whether they are looked up. */
const WORDS_AT = 4;

export interface KernelRules extends Disposable {
  /** Mean nanoseconds of one look-up. */
  measure(): number;
}

/** @throws RangeError when a packet matches no rule. `image` keeps one copy. */
export function openKernelRules(image: RuleImage, tuples: readonly Tuple[], port: number): KernelRules {
  const object = openObject(PROBE_OBJECT, { maxEntries: { rules: 2 * image.lines } });
  const program = object.program('rules_probe');
  const mapped = (name: string) => mapArray(object.map(name));
  const maps = { control: mapped('control'), rules: mapped('rules'), asked: mapped('questions'), told: mapped('replies') }; // biome-ignore format: short
  copyLines(image.changes(0), new Uint32Array(maps.rules.bytes.buffer, maps.rules.bytes.byteOffset), 0);
  const control = abi.control.decode(maps.control.element(0));
  abi.control.write(
    { ...control, rulesHalf: Uint32Array.of(1, 1), rulesLines: image.lines },
    maps.control.element(0),
  );
  const { size } = abi.ruleQuestion;
  for (const [i, tuple] of tuples.entries()) {
    const { key, norm } = normaliseTuple(tuple);
    const question = {
      key: { ...key, a: key.a.slice(), b: key.b.slice() },
      norm,
      port,
      reversed: 0,
      bank: 0,
    };
    abi.ruleQuestion.write(question, maps.asked.bytes, i * size);
  }
  const run = (lookups: 0 | 1): number => {
    const data = new Uint8Array(64);
    new Uint32Array(data.buffer).set([tuples.length, 0, lookups], WORDS_AT);
    return progTestRun(program, { data, repeat: REPEAT }).durationNs / tuples.length;
  };
  run(1);
  for (let i = 0; i < tuples.length; i++) {
    const { answer, why } = abi.ruleReply.decode(maps.told.bytes, i * abi.ruleReply.size);
    if (answer.rule === 0) throw new RangeError(`packet ${i} matched no rule (why ${why})`);
  }
  return {
    measure: () => run(1) - run(0),
    [Symbol.dispose]: () => {
      for (const map of Object.values(maps)) map.close();
      object.close();
    },
  };
}
