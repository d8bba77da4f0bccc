// SPDX-License-Identifier: Apache-2.0
// Says to the outside what this gateway runs and what it could not apply: KV gateway.<name>, the answer to GetStatus, alarms.
import type { AlarmBook, State, StateMirror } from '@detour/bus';
import {
  type AlarmCode,
  type DrainValue,
  type GatewayDrain,
  type GatewayStatus,
  type GatewayValue,
  stateKey,
} from '@detour/contracts';
import { type Clock, describeError, type Log } from '@detour/core';
import { readStats } from './counters.js';
import type { Gateway } from './gateway.js';
import { gatewayStatus, gatewayValue, type Refusal } from './status.js';
import type { TableSet } from './table-book.js';

export interface StatusBoardOptions {
  readonly name: string;
  readonly gateway: Gateway;
  readonly state: State;
  readonly mirror: StateMirror;
  readonly alarms: AlarmBook;
  readonly clock: Clock;
  readonly log: Log;
  readonly connections: () => Record<string, boolean>;
  readonly digests: () => { rules: Uint8Array; paths: Uint8Array };
  readonly figures: () => Record<string, bigint>;
  readonly announced: () => string;
  readonly drain: () => GatewayDrain | undefined;
}

const RETRY_MS = 500;

export class StatusBoard implements Disposable {
  private refusal: Refusal | null = null;
  private running: TableSet | null = null;
  private written = '';
  private writing = false;
  private timer: NodeJS.Timeout | null = null;
  private closed = false;
  private readonly off: () => void;

  constructor(private readonly options: StatusBoardOptions) {
    // A bucket made anew knows nothing of this gateway, and its revisions count from 1: what was said of the old one's is over.
    this.off = options.mirror.onChange(({ epochChanged }) => {
      if (!epochChanged) return;
      this.refusal = null;
      options.alarms.clear('revision_refused', '');
      void this.write();
    });
  }

  published(set: TableSet): void {
    const revision = set.model.revision;
    if (this.running?.model.revision !== revision)
      this.options.log.info({ revision }, `revision ${revision} is live`);
    this.running = set;
    if (this.refusal !== null && this.refusal.revision <= revision) {
      this.options.alarms.clear('revision_refused', '');
      this.refusal = null;
    }
    this.chainAlarms();
    void this.write();
  }

  refused(revision: number, why: string): void {
    this.refusal = { revision, why };
    this.options.log.error(
      { revision },
      `revision ${revision} could not be applied: ${why}; the one before stays`,
    );
    this.options.alarms.raise('revision_refused', '', `revision ${revision}: ${why}`);
    void this.write();
  }

  status(): GatewayStatus {
    const { gateway, name, mirror, connections, digests, figures, announced, drain } = this.options;
    return gatewayStatus(
      {
        gateway: name,
        core: gateway.core,
        book: gateway.book,
        health: gateway.health,
        datapath: gateway.datapath,
        ways: gateway.ways,
        counters: gateway.counterMaps,
        lastSweep: () => gateway.lastSweep,
        draining: (node) =>
          (mirror.get(stateKey.drain(node))?.value as DrainValue | undefined)?.draining === true,
        connected: connections,
        decided: () => ({
          kernel: readStats(gateway.counterMaps).decided ?? 0n,
          controller: BigInt(gateway.punts.counts.controller),
          redis: BigInt(gateway.punts.counts.redis),
          'last-tables': BigInt(gateway.punts.counts.lastTables),
        }),
        figures: () => ({ ...gatewayFigures(gateway), ...figures() }),
        digests,
        announced,
        drain,
        alarms: () => this.options.alarms.active(),
      },
      this.refusal,
    );
  }

  [Symbol.dispose](): void {
    this.closed = true;
    this.off();
    if (this.timer !== null) clearTimeout(this.timer);
  }

  /** What chains do otherwise than an operator would wish, as long as they do; a chain does it where it does so in any VRF. */
  private chainAlarms(): void {
    const { alarms, gateway } = this.options;
    const tell = (code: AlarmCode, chain: string, text: string | null) =>
      text === null ? alarms.clear(code, chain) : alarms.raise(code, chain, text);
    const all = [...(gateway.core.liveTables?.chains.values() ?? [])];
    for (const name of new Set(all.map((chain) => chain.name))) {
      const chains = all.filter((chain) => chain.name === name);
      const stale = `no usable node of chain ${name} has a fresh score: declared capacity counts`;
      tell('all_stale', name, chains.some(({ allStale }) => allStale) ? stale : null);
      const skipped = `no node of an optional hop of chain ${name} is up: new flows pass the chain without it`;
      const isSkipped = chains.some(({ paths }) => paths.some((path) => path.weight > 0 && path.skipped > 0));
      tell('hop_skipped', name, isSkipped ? skipped : null);
      const unmet = `no node with the level of chain ${name} takes new flows: nodes without it take them`;
      const isUnmet = chains.some(({ paths }) =>
        paths.some((path) => path.weight > 0 && path.belowLevel > 0),
      );
      tell('level_unmet', name, isUnmet ? unmet : null);
    }
  }

  /** What the bucket should hold, and a text that differs when it should be written. */
  private wanted(): { value: GatewayValue; key: string } {
    const { mirror, clock } = this.options;
    const { epoch } = mirror;
    const running = this.running?.rulesVersion.epoch === epoch ? this.running : null;
    const value = gatewayValue(running, this.refusal, clock.nowMs());
    return { value, key: `${epoch}/${value.running}/${value.refused}/${value.why}` };
  }

  private async write(): Promise<void> {
    const { value, key } = this.wanted();
    if (this.writing || this.closed || key === this.written) return;
    this.writing = true;
    try {
      await this.options.state.put(stateKey.gateway(this.options.name), value);
      this.written = key;
    } catch (error) {
      this.options.log.debug({}, `status not written yet: ${describeError(error)}`);
      this.timer = setTimeout(() => void this.write(), RETRY_MS);
      this.timer.unref();
    } finally {
      this.writing = false;
    }
    if (this.written === key && this.wanted().key !== key) void this.write();
  }
}

function gatewayFigures(gateway: Gateway): Record<string, bigint> {
  const sweep = gateway.lastSweep;
  return {
    flows: BigInt(sweep?.flows ?? 0),
    embryos: BigInt(sweep?.embryos ?? 0),
    pinned: BigInt(sweep?.pinned ?? 0),
    unrecorded: BigInt(sweep?.unrecorded ?? 0),
    'flows-limit': BigInt(gateway.flowMaps.flows.maxEntries),
    'slots-free': BigInt(gateway.slots.available),
    waiting: BigInt(gateway.punts.waiting),
    'put-back': BigInt(gateway.injector.counts.putBack),
    'inject-lost': BigInt(gateway.injector.counts.lost),
    'late-answers': BigInt(gateway.punts.counts.lateAnswers),
  };
}
