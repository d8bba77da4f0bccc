// SPDX-License-Identifier: Apache-2.0
// Held packets of flows without a decision: asked once per flow, answered within a deadline or decided from the last tables, then put back in
// the order in which they came. Bounded: packets per flow, flows at once.
import type { FlowDecision, FlowQuestion } from './decision.js';

/** A packet that the datapath handed over. */
export interface HeldPacket {
  readonly frame: Uint8Array;
  readonly op: number; // abi.InjectOp with which it goes back
  readonly port: number;
  readonly node: number;
}

export interface PuntDeskOptions {
  readonly deadlineMs: number;
  readonly maxPacketsPerFlow: number;
  readonly maxFlows: number;
  readonly monoMs: () => number;
  /** Asks the controllers; a rejection means that they cannot answer. */
  readonly ask: (question: FlowQuestion) => Promise<FlowDecision>;
  /** From the tables in force; null when there are none. */
  readonly decideAlone: (question: FlowQuestion) => FlowDecision | null;
  /** Stores the decision; false when the flow table is full. */
  readonly install: (question: FlowQuestion, decision: FlowDecision) => boolean;
  readonly putBack: (packets: readonly HeldPacket[]) => void;
  readonly dropHeld: (
    packets: readonly HeldPacket[],
    why: 'punt_full' | 'conn_full' | 'decision_timeout',
  ) => void;
}

interface Pending {
  readonly id: string;
  readonly question: FlowQuestion;
  readonly packets: HeldPacket[];
  readonly deadlineMs: number;
  done: boolean;
}

export class PuntDesk {
  private readonly pending = new Map<string, Pending>();
  private readonly byDeadline: Pending[] = [];
  private head = 0;
  readonly counts = { flows: 0, controller: 0, lastTables: 0, lateAnswers: 0, failures: 0 };

  constructor(private readonly options: PuntDeskOptions) {}

  get waiting(): number {
    return this.pending.size;
  }

  /** One punted packet. `id` identifies the flow record that it waits for. */
  take(id: string, question: FlowQuestion, packet: HeldPacket): void {
    const known = this.pending.get(id);
    if (known !== undefined) {
      if (known.packets.length >= this.options.maxPacketsPerFlow)
        this.options.dropHeld([packet], 'punt_full');
      else known.packets.push(packet);
      return;
    }
    if (this.pending.size >= this.options.maxFlows) {
      this.options.dropHeld([packet], 'punt_full');
      return;
    }
    const deadlineMs = this.options.monoMs() + this.options.deadlineMs;
    const entry: Pending = { id, question, packets: [packet], deadlineMs, done: false };
    this.pending.set(id, entry);
    this.byDeadline.push(entry);
    this.counts.flows++;
    this.options.ask(question).then(
      (decision) => (entry.done ? void this.counts.lateAnswers++ : this.finish(entry, decision)),
      () => {
        if (entry.done) return;
        this.counts.failures++;
        this.decideAlone(entry);
      },
    );
  }

  /** Decides alone what has waited too long; called every few milliseconds. */
  tick(): void {
    const now = this.options.monoMs();
    for (;;) {
      const entry = this.byDeadline[this.head];
      if (entry === undefined || (!entry.done && entry.deadlineMs > now)) break;
      this.head++;
      if (!entry.done) this.decideAlone(entry);
    }
    if (this.head > 1024 && this.head * 2 > this.byDeadline.length) {
      this.byDeadline.splice(0, this.head);
      this.head = 0;
    }
  }

  private decideAlone(entry: Pending): void {
    const decision = this.options.decideAlone(entry.question);
    if (decision !== null) {
      this.finish(entry, decision);
      return;
    }
    this.close(entry);
    this.options.dropHeld(entry.packets, 'decision_timeout');
  }

  private finish(entry: Pending, decision: FlowDecision): void {
    this.close(entry);
    if (decision.by === 'controller') this.counts.controller++;
    else this.counts.lastTables++;
    if (this.options.install(entry.question, decision)) this.options.putBack(entry.packets);
    else this.options.dropHeld(entry.packets, 'conn_full');
  }

  private close(entry: Pending): void {
    entry.done = true;
    this.pending.delete(entry.id);
  }
}
