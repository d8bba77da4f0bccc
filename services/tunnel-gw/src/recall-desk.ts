// SPDX-License-Identifier: Apache-2.0
// Flows that may have begun elsewhere and of which no controller has said anything in time: what the last tables say is offered to Redis by this
// gateway itself, many flows in one go, and what Redis holds already counts. A connection in its middle can wait for that (its sender sends
// again), but not survive another node; so it is decided without Redis only when Redis does not answer.
import type { Answer, Pin, PinRequest } from '@detour/affinity';
import { flowRecordKey } from '@detour/contracts';
import { Fault } from '@detour/core';
import type { FlowDecision, FlowQuestion } from './decision.js';
import { chainIdleMs } from './flow-pin.js';
import { Gathered } from './gathered.js';
import type { ChainModel } from './model.js';

export interface RecallDeskOptions {
  /** SET NX GET EX of each, within its own budget; rejects never. */
  readonly lookOrCreate: (offers: readonly PinRequest[]) => Promise<Answer<Pin>[]>;
  readonly decideAlone: (question: FlowQuestion) => FlowDecision | null;
  readonly chainOf: (number: number) => ChainModel | undefined;
}

interface Recalled {
  readonly offer: PinRequest;
  readonly decision: FlowDecision;
  readonly resolve: (decision: FlowDecision) => void;
  readonly reject: (fault: Fault) => void;
}

export class RecallDesk implements Disposable {
  private readonly due = new Gathered<Recalled>((batch) => void this.offer(batch));
  readonly counts = { recalled: 0, created: 0, unanswered: 0 };

  constructor(private readonly options: RecallDeskOptions) {}

  /**
   * Null where nobody else can know better: the flow begins here, or no path is to be chosen. Rejects with a Fault `unavailable` when Redis
   * does not answer.
   */
  ask(question: FlowQuestion): Promise<FlowDecision> | null {
    if (question.syn) return null;
    const decision = this.options.decideAlone(question);
    const chain = decision?.action === 'steer' ? this.options.chainOf(decision.chain) : undefined;
    if (decision === null || chain === undefined || decision.path === 0) return null;
    const { path, initiatorIsB } = decision;
    const offer: PinRequest = {
      key: flowRecordKey(question.key),
      record: { gen: 1, path, chain: chain.number, initiatorIsB },
      ttlS: Math.ceil(chainIdleMs(chain, question.key.proto) / 1000),
    };
    return new Promise((resolve, reject) => this.due.add({ offer, decision, resolve, reject }));
  }

  private async offer(batch: readonly Recalled[]): Promise<void> {
    const answers = await this.options.lookOrCreate(batch.map(({ offer }) => offer));
    for (const [i, { decision, resolve, reject }] of batch.entries()) {
      const answer = answers[i];
      if (answer?.ok === true) resolve(this.settled(decision, answer.value));
      else {
        this.counts.unanswered++;
        reject(new Fault('unavailable', answer?.why ?? 'Redis left a key out'));
      }
    }
  }

  /** A pin of a path that is down is kept as well: the datapath leaves it as the chain says, and Redis hears of that. */
  private settled(decision: FlowDecision, { record, created }: Pin): FlowDecision {
    const known = this.options
      .chainOf(decision.chain)
      ?.paths.some(({ number }) => number === record.path && record.chain === decision.chain);
    if (created || known !== true) {
      this.counts.created++;
      return { ...decision, by: 'redis', pinGen: created ? 1 : record.gen, recorded: created };
    }
    this.counts.recalled++;
    const why = `${decision.why}; pinned to path ${record.path}`;
    const { path, gen: pinGen, initiatorIsB, programmed } = record;
    return {
      ...{ ...decision, by: 'redis', path, pinGen, initiatorIsB, recorded: true, why },
      ...(programmed !== undefined && { programmed }),
    };
  }

  [Symbol.dispose](): void {
    this.due[Symbol.dispose]();
  }
}
