// SPDX-License-Identifier: Apache-2.0
// Held packets of flows without a decision: asked once per flow, answered within a deadline, or else recalled from Redis where the flow may
// have begun elsewhere, or else decided from the last tables; then put back in the order in which they came. Bounded: packets per flow, flows at once, bytes in all.
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
  readonly maxBytes: number; // of all held packets together
  readonly monoMs: () => number;
  /** Generation of the rules in force; an answer counts as one about the rules that were in force when it was asked for. */
  readonly rulesGen: () => number;
  /** Whether the flow has a decision already: its packet was on the way here while it was made. */
  readonly isDecided: (question: FlowQuestion) => boolean;
  /** Asks the controllers; a rejection means that they cannot answer. */
  readonly ask: (question: FlowQuestion) => Promise<FlowDecision>;
  /** What this gateway itself gets from Redis of a flow that may have begun elsewhere; null where there is nothing to get. Settles soon. */
  readonly recall: (question: FlowQuestion) => Promise<FlowDecision> | null;
  /** From the tables in force; null when there are none. */
  readonly decideAlone: (question: FlowQuestion) => FlowDecision | null;
  /** Stores the decision; false when the flow table is full. */
  readonly install: (question: FlowQuestion, decision: FlowDecision, rulesGen: number) => boolean;
  readonly putBack: (packets: readonly HeldPacket[]) => void;
  readonly dropHeld: (
    packets: readonly HeldPacket[],
    why: 'punt_full' | 'conn_full' | 'decision_timeout',
  ) => void;
  /** A decision that could not be stored, by its own fault; its packets are dropped. */
  readonly onError: (error: unknown) => void;
}

interface Pending {
  readonly id: string;
  readonly question: FlowQuestion;
  readonly packets: HeldPacket[];
  readonly deadlineMs: number;
  readonly rulesGen: number;
  done: boolean;
  recalling: boolean;
}

export class PuntDesk {
  private readonly pending = new Map<string, Pending>();
  private readonly byDeadline: Pending[] = [];
  private head = 0;
  private heldBytes = 0;
  readonly counts = { flows: 0, controller: 0, redis: 0, lastTables: 0, lateAnswers: 0, failures: 0 };

  constructor(private readonly options: PuntDeskOptions) {}

  get waiting(): number {
    return this.pending.size;
  }

  /** Flows whose deadline is still to come, with those among them that are decided. */
  get remembered(): number {
    return this.byDeadline.length - this.head;
  }

  /** One punted packet. `id` identifies the flow record that it waits for; `first`: the datapath met this flow with it. */
  take(id: string, question: FlowQuestion, packet: HeldPacket, first: boolean): void {
    const { options } = this;
    const known = this.pending.get(id);
    if (known === undefined && !first && options.isDecided(question)) {
      options.putBack([packet]);
      return;
    }
    const room = this.heldBytes + packet.frame.length <= options.maxBytes;
    if (!room || (known?.packets.length ?? 0) >= options.maxPacketsPerFlow) {
      options.dropHeld([packet], 'punt_full');
      return;
    }
    if (known === undefined && this.pending.size >= options.maxFlows) {
      options.dropHeld([packet], 'punt_full');
      return;
    }
    this.heldBytes += packet.frame.length;
    if (known === undefined) this.begin(id, question, packet);
    else known.packets.push(packet);
  }

  private begin(id: string, question: FlowQuestion, packet: HeldPacket): void {
    const deadlineMs = this.options.monoMs() + this.options.deadlineMs;
    const rulesGen = this.options.rulesGen();
    const entry: Pending = {
      id,
      question,
      packets: [packet],
      deadlineMs,
      rulesGen,
      done: false,
      recalling: false,
    };
    this.pending.set(id, entry);
    this.byDeadline.push(entry);
    this.counts.flows++;
    this.options.ask(question).then(
      (decision) =>
        entry.done ? void this.counts.lateAnswers++ : this.finish(entry, decision, entry.rulesGen),
      () => {
        if (entry.done) return;
        this.counts.failures++;
        this.goOn(entry);
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
      if (!entry.done) this.goOn(entry);
    }
    if (this.head === this.byDeadline.length || this.head > 1024) {
      this.byDeadline.splice(0, this.head);
      this.head = 0;
    }
  }

  /** No controller answered in time. One that still does is heard as long as Redis is not. */
  private goOn(entry: Pending): void {
    if (entry.recalling) return;
    const recalled = this.options.recall(entry.question);
    if (recalled === null) {
      this.decideAlone(entry);
      return;
    }
    entry.recalling = true;
    recalled.then(
      (decision) => (entry.done ? undefined : this.finish(entry, decision, entry.rulesGen)),
      () => (entry.done ? undefined : this.decideAlone(entry)),
    );
  }

  private decideAlone(entry: Pending): void {
    const decision = this.options.decideAlone(entry.question);
    if (decision !== null) {
      this.finish(entry, decision, this.options.rulesGen());
      return;
    }
    this.close(entry);
    this.options.dropHeld(entry.packets, 'decision_timeout');
  }

  private finish(entry: Pending, decision: FlowDecision, rulesGen: number): void {
    const { options } = this;
    this.close(entry);
    try {
      if (!options.install(entry.question, decision, rulesGen)) {
        options.dropHeld(entry.packets, 'conn_full');
        return;
      }
    } catch (error) {
      this.counts.failures++;
      options.onError(error);
      options.dropHeld(entry.packets, 'decision_timeout');
      return;
    }
    if (decision.by === 'controller') this.counts.controller++;
    else if (decision.by === 'redis') this.counts.redis++;
    else this.counts.lastTables++;
    options.putBack(entry.packets);
  }

  private close(entry: Pending): void {
    entry.done = true;
    this.pending.delete(entry.id);
    for (const { frame } of entry.packets) this.heldBytes -= frame.length;
  }
}
