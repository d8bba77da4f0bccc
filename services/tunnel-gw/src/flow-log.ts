// SPDX-License-Identifier: Apache-2.0
/*
 * The flow log: a line when a flow begins, when it is decided otherwise, and when it ends.
 *
 * The datapath tells nobody of flows that it decides, so that a flood of openings is no flood of events; this log asks for none. All that it
 * writes the sweep has seen, which looks at every record anyway: the log remembers the flows that have a counter row, by that row. A flow that
 * shows nothing but its opening has none, and gets a line when its record times out. Lines beyond the rate are counted, not written.
 */
import { abi } from '@detour/contracts';
import type { Clock } from '@detour/core';
import { type FlowHead, readFlowHead } from './flow-head.js';
import { changeLine, endLine, endReasonOf, type FlowFacts, startLine } from './flow-line.js';
import { type FlowRowSources, flowRow } from './flow-rows.js';
import { unpackFlowWord } from './flow-word.js';
import { LineBudget, type LineKind } from './line-budget.js';
import type { LineFile } from './line-file.js';
import { type ChainModel, nodeLabel } from './model.js';
import type { FlowWatch } from './sweeper.js';

export interface FlowLogOptions {
  readonly gateway: string;
  readonly file: Pick<LineFile, 'write' | 'lost'>;
  /** Lines per second. */
  readonly ratePerS: number;
  /** What flows are called by; null before a revision is live. */
  readonly sources: () => FlowRowSources | null;
  readonly chainOf: (number: number) => ChainModel | undefined;
  readonly clock: Pick<Clock, 'monoMs' | 'nowMs'>;
  /** CLOCK_MONOTONIC; flows that are older than the log get no start. */
  readonly nowNs: () => bigint;
}

/** Of each flow: its key, and of its record the part that says what it is. */
const { fwdPort } = abi.flow.offsets;
const RECORD_BYTES = fwdPort + 2;
const NEVER = { lastNs: 0, seen: 0 };
const KEPT_BYTES = abi.flowKey.size + RECORD_BYTES;

export class FlowLog implements FlowWatch {
  /** Lines written, by event. */
  readonly lines = { start: 0, change: 0, end: 0 };
  private readonly budget: LineBudget;
  private readonly openedNs: number;
  /** Action, flags and path of each slot's flow as last seen; 0: none is known. */
  private readonly words: Uint32Array;
  private readonly kept: Uint8Array;
  private unseen = 0;
  private refused = 0;
  private told = '';

  constructor(
    private readonly options: FlowLogOptions,
    slots: number,
  ) {
    this.budget = new LineBudget(options.ratePerS, () => options.clock.monoMs());
    this.openedNs = Number(options.nowNs());
    this.words = new Uint32Array(slots);
    this.kept = new Uint8Array(slots * KEPT_BYTES);
  }

  /** Lines that were not written, by why; `unseen` are flows that began and were gone between two sweeps. */
  get leftOut(): Readonly<Record<LineKind | 'unseen' | 'unwritten', number>> {
    return { ...this.budget.leftOut, unseen: this.unseen, unwritten: this.refused + this.options.file.lost };
  }

  sees(key: Uint8Array, value: Uint8Array, head: FlowHead): void {
    const { slot } = head;
    const word = (head.path | (head.action << 24) | (head.flags << 28)) >>> 0;
    const before = this.words[slot];
    if (slot === 0 || before === undefined || before === word) return;
    this.words[slot] = word;
    this.kept.set(key, slot * KEPT_BYTES);
    this.kept.set(value.subarray(0, RECORD_BYTES), slot * KEPT_BYTES + abi.flowKey.size);
    if (before === 0 && head.createdNs < this.openedNs) return; // a predecessor's: it has a start already
    if (before === 0) this.write('start', 'start', key, value, startLine);
    else
      this.write('change', 'change', key, value, (line, facts) =>
        changeLine(line, facts, this.wayOf(before)),
      );
  }

  ended(key: Uint8Array, value: Uint8Array): void {
    const { slot } = readFlowHead(value);
    this.words[slot] = 0;
    this.write(slot === 0 ? 'opening' : 'end', 'end', key, value, (line, facts) =>
      endLine(line, facts, endReasonOf(facts, false)),
    );
  }

  vanished(slot: number): void {
    const at = slot * KEPT_BYTES;
    if (this.words[slot] === 0) {
      this.unseen++;
      return;
    }
    this.words[slot] = 0;
    const value = new Uint8Array(abi.flow.size);
    value.set(this.kept.subarray(at + abi.flowKey.size, at + KEPT_BYTES));
    this.write('end', 'end', this.kept.slice(at, at + abi.flowKey.size), value, (line, facts) =>
      endLine(line, facts, endReasonOf(facts, true)),
    );
  }

  /** After each sweep: how many lines were left out since this log was opened, if more were since it last said so. */
  swept(): void {
    const { file, gateway, clock } = this.options;
    const counts = JSON.stringify(this.leftOut);
    if (counts === this.told || Object.values(this.leftOut).every((count) => count === 0)) return;
    const at = new Date(clock.nowMs()).toISOString();
    if (file.write(JSON.stringify({ event: 'left-out', at, gateway, ...this.leftOut }))) this.told = counts;
  }

  private write(
    kind: LineKind,
    event: keyof FlowLog['lines'],
    key: Uint8Array,
    value: Uint8Array,
    lineOf: (head: { gateway: string; nowMs: number }, facts: FlowFacts) => string,
  ): void {
    const { options } = this;
    const sources = options.sources();
    if (sources === null || !this.budget.take(kind)) return;
    const flow = abi.flow.decode(value);
    const row = flowRow(sources, key, flow, true);
    const { lastNs, seen } = flow.slot === 0 ? NEVER : sources.table.activity(flow.slot);
    const sinceMs = (ns: number) => Math.max(0, Math.round((Number(options.nowNs()) - ns) / 1e6));
    const ageMs = sinceMs(Number(flow.createdNs));
    const facts: FlowFacts = {
      row,
      word: unpackFlowWord(flow.word),
      ...{ seen, ageMs, idleMs: lastNs === 0 ? ageMs : Math.min(ageMs, sinceMs(lastNs)) },
      vrf: sources.model.vrfs.find(({ number }) => number === row.tuple?.vrf)?.name ?? '',
      chain: options.chainOf(flow.chain),
    };
    const head = { gateway: options.gateway, nowMs: options.clock.nowMs() };
    if (options.file.write(lineOf(head, facts))) this.lines[event]++;
    else this.refused++;
  }

  private wayOf(word: number): { path: number; nodes: string[] } {
    const path = word & abi.FlowWord.WORD_PATH_MASK;
    const model = this.options.sources()?.model;
    const nodes = model?.pathNodes.get(path) ?? [];
    return { path, nodes: model === undefined ? [] : nodes.map((number) => nodeLabel(model, number)) };
  }
}
