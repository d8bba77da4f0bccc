// SPDX-License-Identifier: Apache-2.0
/** The datapath's rule look-up alone (datapath/rules_probe.bpf.c): many packets a run, answered by an image in the kernel. */
import { mapArray, openObject, progTestRun } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { normaliseTuple, type Tuple } from '@detour/core';
import { copyLines, type RuleImage } from '@detour/tables';
import { PROBE_OBJECT } from '../bpf-objects.js';

/** Three words behind the Ethernet header, on a boundary: how many, from which, and whether they are looked up. */
const WORDS_AT = 4;

/** `port` null: as a reply's tuple, by any port. */
export interface Question {
  readonly tuple: Tuple;
  readonly port: number | null;
}

export interface RulesProbe extends Disposable {
  /** How many questions there is room for. */
  readonly most: number;
  put(index: number, question: Question): void;
  /** Answers the first so many questions, or goes through them without a look-up. Returns nanoseconds of one, the mean of `repeat` runs. */
  run(count: number, options?: { readonly lookups?: boolean; readonly repeat?: number }): number;
  /** The rule of an answer, 0 = none; `why`: enum rules_why. */
  answer(index: number): { readonly rule: number; readonly why: number };
}

/** `image` keeps one copy. */
export function openRulesProbe(image: RuleImage): RulesProbe {
  const object = openObject(PROBE_OBJECT, { maxEntries: { rules: 2 * image.lines } });
  const program = object.program('rules_probe');
  const mapped = (name: string) => mapArray(object.map(name));
  const maps = {
    control: mapped('control'),
    rules: mapped('rules'),
    asked: mapped('questions'),
    told: mapped('replies'),
  };
  copyLines(image.changes(0), new Uint32Array(maps.rules.bytes.buffer, maps.rules.bytes.byteOffset), 0);
  const control = abi.control.decode(maps.control.element(0));
  abi.control.write(
    { ...control, rulesHalf: Uint32Array.of(1, 1), rulesLines: image.lines },
    maps.control.element(0),
  );
  return {
    most: object.map('questions').maxEntries,
    put: (index, question) =>
      abi.ruleQuestion.write(encodeQuestion(question), maps.asked.bytes, index * abi.ruleQuestion.size),
    run: (count, { lookups = true, repeat = 1 } = {}) => {
      const data = new Uint8Array(64);
      new Uint32Array(data.buffer).set([count, 0, lookups ? 1 : 0], WORDS_AT);
      return progTestRun(program, { data, repeat }).durationNs / count;
    },
    answer: (index) => {
      const { answer, why } = abi.ruleReply.decode(maps.told.bytes, index * abi.ruleReply.size);
      return { rule: answer.rule, why };
    },
    [Symbol.dispose]: () => {
      for (const map of Object.values(maps)) map.close();
      object.close();
    },
  };
}

/** A reply's tuple goes in as the packet brings it, which is the other way round than it is looked up. */
function encodeQuestion({ tuple, port }: Question): abi.RuleQuestion {
  const { key, norm } = normaliseTuple(tuple);
  return {
    key: { ...key, a: Uint8Array.from(key.a), b: Uint8Array.from(key.b) },
    norm: port === null ? norm ^ 1 : norm,
    port: port ?? 0,
    reversed: port === null ? 1 : 0,
    bank: 0,
  };
}
