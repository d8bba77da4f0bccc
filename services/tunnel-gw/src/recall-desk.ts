// SPDX-License-Identifier: Apache-2.0
// Flows that may have begun, or been answered, elsewhere: this gateway itself asks Redis for their pins before it asks any controller, many flows in one go. Of those
// that Redis does not know, and of which no controller says anything in time, what the last tables say is offered to Redis, and what it holds
// by then counts. A connection in its middle can wait for that (its sender sends again), but not survive another node; so it is decided without
// Redis only when Redis does not answer.
import type { Answer, Pin, PinRequest } from '@detour/affinity';
import { type FlowRecord, flowRecordKey } from '@detour/contracts';
import { Fault } from '@detour/core';
import type { FlowDecision, FlowQuestion } from './decision.js';
import { chainIdleMs } from './flow-pin.js';
import { Gathered } from './gathered.js';
import type { ChainModel } from './model.js';

export interface RecallDeskOptions {
  /** Whether Redis is there to be asked. */
  readonly connected: () => boolean;
  /** GET of each, within the budget of a single flow; rejects never. */
  readonly lookUp: (keys: readonly string[]) => Promise<Answer<FlowRecord | null>[]>;
  /** SET NX GET EX of each, within its own budget; rejects never. */
  readonly lookOrCreate: (offers: readonly PinRequest[]) => Promise<Answer<Pin>[]>;
  /** `history`: whether this is a choice that later ones go by. */
  readonly decideAlone: (question: FlowQuestion, how: { readonly history: boolean }) => FlowDecision | null;
  readonly chainOf: (number: number) => ChainModel | undefined;
}

interface Sought {
  readonly key: string;
  readonly decision: FlowDecision;
  readonly begins: boolean; // no node knows the connection, or one that never answered: a path that is down will not do
  readonly resolve: (decision: FlowDecision | null) => void;
}

/** What the last tables say. */
interface OwnChoice {
  readonly decision: FlowDecision;
  readonly chain: ChainModel;
}

interface Recalled {
  readonly offer: PinRequest;
  readonly decision: FlowDecision;
  readonly resolve: (decision: FlowDecision) => void;
  readonly reject: (fault: Fault) => void;
}

export class RecallDesk implements Disposable {
  private readonly sought = new Gathered<Sought>((batch) => void this.lookUp(batch));
  private readonly due = new Gathered<Recalled>((batch) => void this.offerAll(batch));
  /** Look-ups under way: what is asked about meanwhile waits for them. */
  private readonly lookUps = new Map<FlowQuestion, Promise<FlowDecision | null>>();
  readonly counts = { recalled: 0, created: 0, unanswered: 0 };

  constructor(private readonly options: RecallDeskOptions) {}

  /**
   * What Redis holds of the flow. Null, at once or later, where it holds nothing that can be used, does not answer, or has nothing to say: then
   * the controllers are asked. Rejects never.
   */
  known(question: FlowQuestion): Promise<FlowDecision | null> | null {
    if (question.sampled === true || !this.options.connected()) return null;
    const own = this.ownChoice(question, false);
    if (own === null) return null;
    const key = flowRecordKey(question.key);
    const found = new Promise<FlowDecision | null>((resolve) =>
      this.sought.add({ key, decision: own.decision, begins: question.syn, resolve }),
    );
    this.lookUps.set(question, found);
    return found.finally(() => this.lookUps.delete(question));
  }

  /**
   * Null where nobody else can know better: the flow begins here, or no path is to be chosen. Rejects with a Fault `unavailable` when Redis
   * does not answer.
   */
  ask(question: FlowQuestion): Promise<FlowDecision> | null {
    const own = this.ownChoice(question, true);
    if (own === null) return null;
    const found = this.lookUps.get(question);
    return found === undefined
      ? this.offer(question, own)
      : found.then((pin) => pin ?? this.offer(question, own));
  }

  private ownChoice(question: FlowQuestion, history: boolean): OwnChoice | null {
    if (question.syn && question.again !== true) return null;
    const decision = this.options.decideAlone(question, { history });
    const chain = decision?.action === 'steer' ? this.options.chainOf(decision.chain) : undefined;
    return decision === null || chain === undefined || decision.path === 0 ? null : { decision, chain };
  }

  private offer(question: FlowQuestion, { decision, chain }: OwnChoice): Promise<FlowDecision> {
    const { path, initiatorIsB } = decision;
    const offer: PinRequest = {
      key: flowRecordKey(question.key),
      record: { gen: 1, path, chain: chain.number, initiatorIsB },
      ttlS: Math.ceil(chainIdleMs(chain, question.key.proto) / 1000),
    };
    return new Promise((resolve, reject) => this.due.add({ offer, decision, resolve, reject }));
  }

  private async offerAll(batch: readonly Recalled[]): Promise<void> {
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

  private async lookUp(batch: readonly Sought[]): Promise<void> {
    const answers = await this.options.lookUp(batch.map(({ key }) => key));
    for (const [i, { decision, begins, resolve }] of batch.entries()) {
      const answer = answers[i];
      const record = answer?.ok === true ? answer.value : null;
      const usable = record !== null && this.isUsable(decision, record, begins);
      resolve(usable ? this.recalled(decision, record) : null);
    }
  }

  private isUsable(decision: FlowDecision, { chain, path, programmed }: FlowRecord, begins = false): boolean {
    const paths = chain === decision.chain ? this.options.chainOf(chain)?.paths : undefined;
    const found = paths?.find(({ number }) => number === path);
    return found !== undefined && (!begins || (found.up && programmed === undefined));
  }

  private settled(decision: FlowDecision, { record, created }: Pin): FlowDecision {
    if (!created && this.isUsable(decision, record)) return this.recalled(decision, record);
    this.counts.created++;
    return { ...decision, by: 'redis', pinGen: created ? 1 : record.gen, recorded: created };
  }

  /** A pin of a path that is down is kept as well: the datapath leaves it as the chain says, and Redis hears of that. */
  private recalled(decision: FlowDecision, record: FlowRecord): FlowDecision {
    this.counts.recalled++;
    const why = `${decision.why}; pinned to path ${record.path}`;
    const { path, gen: pinGen, initiatorIsB, programmed } = record;
    return {
      ...{ ...decision, by: 'redis', path, pinGen, initiatorIsB, recorded: true, why },
      ...(programmed !== undefined && { programmed }),
    };
  }

  [Symbol.dispose](): void {
    this.sought[Symbol.dispose]();
    this.due[Symbol.dispose]();
  }
}
