// SPDX-License-Identifier: Apache-2.0
// The rule look-up of the datapath on its own (datapath/rules_probe.bpf.c): many tuples a run, answered from an image in either half.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { mapArray, openObject, progTestRun } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { normaliseTuple, type Tuple } from '@detour/core';
import { copyLines, LINE_WORDS, type LineChanges } from '@detour/tables';

const DATAPATH = fileURLToPath(new URL('../../../datapath/', import.meta.url));
const HEADER_WORDS_AT = 16;

/** `port` null: as a reply's tuple, reversed by the datapath. */
export interface Question {
  readonly tuple: Tuple;
  readonly port: number | null;
}

export interface Answer {
  readonly rule: number;
  readonly chain: number;
  readonly action: number;
  readonly flags: number;
  readonly why: number;
}

export interface RulesProbe extends Disposable {
  /** Copies lines into a half. */
  write(half: 1 | 2, changes: LineChanges): void;
  /** Which half each bank names; 0: none. */
  halves(bank0: number, bank1: number): void;
  ask(questions: readonly Question[], bank?: number): Answer[];
  /** Look-ups that only user space can answer, so far. */
  asked(): number;
}

/** `lines`: of a half. */
export function openRulesProbe(lines: number): RulesProbe {
  execFileSync('flock', [`${DATAPATH}Makefile`, 'make', '-s', '-C', DATAPATH]);
  const object = openObject(`${DATAPATH}build/rules_probe.bpf.o`, { maxEntries: { rules: 2 * lines } });
  const program = object.program('rules_probe');
  const [control, rules, questions, replies] = ['control', 'rules', 'questions', 'replies'].map((name) =>
    mapArray(object.map(name)),
  );
  if (!control || !rules || !questions || !replies) throw new TypeError('the probe lacks a map');
  const words = new Uint32Array(rules.bytes.buffer, rules.bytes.byteOffset, 2 * lines * LINE_WORDS);
  const most = object.map('questions').maxEntries;
  const controlRow = abi.control.decode(control.element(0));
  abi.control.write({ ...controlRow, rulesLines: lines }, control.element(0));
  const run = (count: number): void => {
    const frame = new Uint8Array(64);
    new Uint32Array(frame.buffer).set([count, 0, 1], HEADER_WORDS_AT / 4);
    progTestRun(program, { data: frame });
  };
  return {
    write: (half, changes) => {
      for (const line of changes.lines) if (line >= lines) throw new RangeError(`line ${line} of ${lines}`);
      copyLines(changes, words, (half - 1) * lines * LINE_WORDS);
    },
    halves: (bank0, bank1) => {
      const row = abi.control.decode(control.element(0));
      abi.control.write({ ...row, rulesHalf: Uint32Array.of(bank0, bank1) }, control.element(0));
    },
    ask: (asked, bank = 0) => {
      const answers: Answer[] = [];
      for (let from = 0; from < asked.length; from += most) {
        const batch = asked.slice(from, from + most);
        for (const [i, question] of batch.entries())
          abi.ruleQuestion.write(encode(question, bank), questions.bytes, i * abi.ruleQuestion.size);
        run(batch.length);
        for (let i = 0; i < batch.length; i++) {
          const { answer, why } = abi.ruleReply.decode(replies.bytes, i * abi.ruleReply.size);
          answers.push({ ...answer, why });
        }
      }
      return answers;
    },
    asked: () => {
      const stats = object.map('stats');
      const key = new Uint8Array(Uint32Array.of(abi.Stat.STAT_RULES_ASKED).buffer);
      const value = stats.lookup(key) ?? new Uint8Array(0);
      return new BigUint64Array(value.slice().buffer).reduce((sum, one) => sum + Number(one), 0);
    },
    [Symbol.dispose]: () => {
      for (const mapped of [control, rules, questions, replies]) mapped.close();
      object.close();
    },
  };
}

/** A reply's tuple goes in as the packet brings it, which is the other way round than it is looked up. */
function encode({ tuple, port }: Question, bank: number): abi.RuleQuestion {
  const { key, norm } = normaliseTuple(tuple);
  return {
    key: {
      ...{ a: Uint8Array.from(key.a), b: Uint8Array.from(key.b), vrf: key.vrf, proto: key.proto, scope: 0 },
      aport: key.aport,
      bport: key.bport,
    },
    norm: port === null ? norm ^ 1 : norm,
    port: port ?? 0,
    reversed: port === null ? 1 : 0,
    bank,
  };
}
