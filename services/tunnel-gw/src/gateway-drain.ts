// SPDX-License-Identifier: Apache-2.0
// The drain of this whole gateway, as `detour drain-gateway` asks for it: first Redis has every pin, then routers are told to leave, and what
// still arrives is steered and counted until nothing does. Which gateway is drained is a key of the state bucket; a copy in the run directory
// has a successor withhold itself also where it cannot reach NATS.
import type { StateMirror } from '@detour/bus';
import { type GatewayDrain as DrainStatus, type DrainValue, stateKey } from '@detour/contracts';
import { type Clock, describeError, type Log } from '@detour/core';
import { KeptDrain } from './kept-drain.js';
import type { SweepResult } from './sweeper.js';

export interface GatewayDrainOptions {
  readonly gateway: string;
  readonly runDir: string;
  readonly mirror: Pick<StateMirror, 'epoch' | 'get' | 'onChange'>;
  /** Resolves when Redis has every pin that was there at the call; `onLeft` is told how many are not known to be there yet. */
  readonly recordPins: (onLeft: (count: number) => void, signal: AbortSignal) => Promise<void>;
  /** Packets to be forwarded that ever came in by ports on devices of their own; null before a version is live. */
  readonly readArrivals: () => bigint | null;
  /** The last look at all flows, by whichever port they come; null before the first. */
  readonly lastSweep: () => Pick<SweepResult, 'beganMs' | 'quietMs'> | null;
  readonly clock: Clock;
  readonly log: Log;
}

const LOOK_EVERY_MS = 100;
const RETRY_MS = 1_000;

interface Recording {
  readonly kind: 'recording';
  readonly by: string;
  readonly abort: AbortController;
  unrecorded: number;
}
interface Withheld {
  readonly kind: 'withheld';
  readonly by: string;
  readonly sinceMs: number;
  /** As counted when routers were told. */
  arrivalsBefore: bigint | null;
  arrivals: bigint | null;
  lastArrivalMs: number;
}

export class GatewayDrain implements AsyncDisposable {
  private state: Recording | Withheld | null = null;
  private readonly kept: KeptDrain;
  private working: Promise<void> = Promise.resolve();
  private cancel = (): void => {};
  private off = (): void => {};
  private changed = (): void => {};

  constructor(private readonly options: GatewayDrainOptions) {
    this.kept = new KeptDrain({ dir: options.runDir, gateway: options.gateway, log: options.log });
    const before = this.kept.read();
    if (before !== null) this.withholdNow(before); // its predecessor had recorded its pins, or died before it could
  }

  /** Follows the state bucket from now on; `onChange`: what `withhold` says has changed. */
  start(onChange: () => void): void {
    const { mirror } = this.options;
    this.changed = onChange;
    this.off = mirror.onChange(() => this.follow());
    if (mirror.epoch !== '') this.follow();
  }

  /** Why routers are not to send traffic here; '' when they are. */
  get withhold(): string {
    return this.state?.kind === 'withheld' ? `drained by ${this.state.by}` : '';
  }

  status(): DrainStatus | undefined {
    const { state } = this;
    if (state === null) return undefined;
    const { by } = state;
    if (state.kind === 'recording')
      return { by, recording: true, unrecorded: BigInt(state.unrecorded), arrived: 0n, quietMs: 0n };
    this.look(state);
    const arrived = (state.arrivals ?? 0n) - (state.arrivalsBefore ?? 0n);
    return {
      by,
      recording: false,
      unrecorded: 0n,
      arrived,
      quietMs: BigInt(Math.floor(this.quietMs(state))),
    };
  }

  /** What came by a tunnel or a VLAN shows in its flow alone, and no later than at the end of the sweep. */
  private quietMs({ sinceMs, lastArrivalMs }: Withheld): number {
    const sweep = this.options.lastSweep();
    if (sweep === null || sweep.beganMs < sinceMs) return 0;
    const ofFlowsMs = Math.min(sweep.quietMs, sweep.beganMs - sinceMs);
    return Math.min(ofFlowsMs, this.options.clock.monoMs() - lastArrivalMs);
  }

  private follow(): void {
    const { mirror, gateway } = this.options;
    const value = mirror.get(stateKey.gatewayDrain(gateway))?.value as DrainValue | undefined;
    const by = value?.draining === true ? value.by : null;
    this.kept.keep(by);
    if (by === null) this.end();
    else if (this.state === null) this.begin(by);
  }

  private begin(by: string): void {
    const state: Recording = { kind: 'recording', by, abort: new AbortController(), unrecorded: 0 };
    this.state = state;
    this.options.log.warn(
      {},
      `this gateway is drained by ${by}: its pins are recorded, then routers are told to leave it`,
    );
    this.working = this.record(state);
  }

  private async record(state: Recording): Promise<void> {
    const { recordPins, clock, log } = this.options;
    const { signal } = state.abort;
    try {
      await recordPins((left) => {
        state.unrecorded = left;
      }, signal);
      if (this.state === state) this.withholdNow(state.by);
    } catch (error) {
      if (signal.aborted) return;
      log.error({}, `the pins were not recorded, and routers are not told yet: ${describeError(error)}`);
      this.cancel = clock.after(RETRY_MS, () => {
        this.working = this.record(state);
      });
    }
  }

  private withholdNow(by: string): void {
    const { readArrivals, clock } = this.options;
    const [arrivals, nowMs] = [readArrivals(), clock.monoMs()];
    const counted = { arrivals, arrivalsBefore: arrivals };
    this.state = { kind: 'withheld', by, ...counted, sinceMs: nowMs, lastArrivalMs: nowMs };
    this.lookLater(this.state);
    this.changed();
  }

  private lookLater(state: Withheld): void {
    this.cancel = this.options.clock.after(LOOK_EVERY_MS, () => {
      this.look(state);
      this.lookLater(state);
    });
  }

  private look(state: Withheld): void {
    const arrivals = this.options.readArrivals();
    if (arrivals === null || arrivals === state.arrivals) return;
    state.arrivalsBefore ??= arrivals;
    state.arrivals = arrivals;
    state.lastArrivalMs = this.options.clock.monoMs();
  }

  private end(): void {
    const { state } = this;
    if (state === null) return;
    this.state = null;
    this.cancel();
    if (state.kind === 'recording') state.abort.abort();
    this.options.log.info({}, 'this gateway is drained no longer');
    this.changed();
  }

  /** What was withheld stays so: bfd remembers, and the successor reads it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.off();
    this.cancel();
    if (this.state?.kind === 'recording') this.state.abort.abort();
    await this.working;
  }
}
