// SPDX-License-Identifier: Apache-2.0
// The look at everything that goes on for as long as the gateway does: programs that were taken off, ports that deliver nothing, flows and
// pins, bindings of SNAT addresses.
import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import { readDrops, readStats } from './counters.js';
import { checkDelivery } from './delivery-check.js';
import { DeliveryWatch } from './delivery-watch.js';
import { FlowLog } from './flow-log.js';
import { FlowPressure, type FlowRoom } from './flow-pressure.js';
import { rowSources } from './flow-rows.js';
import type { GatewayOptions, GatewayParts } from './gateway-parts.js';
import { LineFile } from './line-file.js';
import { type SweepResult, sweepFlows } from './sweeper.js';

export class SweepLoop implements AsyncDisposable {
  /** Of the last whole sweep. */
  last: SweepResult | null = null;
  /** Null where none is wanted. */
  readonly flowLog: FlowLog | null;
  private readonly file: LineFile | null;
  private readonly delivery = new DeliveryWatch();
  private readonly pressure: FlowPressure;

  constructor(
    private readonly options: GatewayOptions,
    private readonly parts: GatewayParts,
  ) {
    const { flowLogPath, flowLogRate, flowsAlarm, clock } = options;
    this.pressure = new FlowPressure(flowsAlarm, () => clock.monoMs());
    this.file =
      flowLogPath === ''
        ? null
        : new LineFile({ path: flowLogPath, onTrouble: (why) => this.notLogged(why) });
    this.flowLog = this.file && this.openLog(this.file, flowLogRate);
  }

  private openLog(file: LineFile, ratePerS: number): FlowLog {
    const { options, parts } = this;
    const sources = () => {
      const set = parts.core.running;
      return set === null ? null : rowSources(parts, set.model);
    };
    const chainOf = (number: number) => parts.decisions.chainOf(number);
    const nowNs = () => process.hrtime.bigint();
    return new FlowLog(
      { ...{ file, ratePerS, sources, chainOf, nowNs }, gateway: options.name, clock: options.clock },
      parts.slots.capacity,
    );
  }

  private notLogged(why: string | null): void {
    const text = `lines of the flow log cannot be written to ${this.options.flowLogPath}: ${why}; they are left out and counted`;
    this.options.onTrouble('flow_log_failed', why === null ? null : text);
  }

  /** After `run` has resolved. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.file?.[Symbol.asyncDispose]();
  }

  /** Resolves when the signal has come and nothing is under way. */
  async run(signal: AbortSignal): Promise<void> {
    const { sweepEveryMs, log } = this.options;
    while (!signal.aborted) {
      // A sweep may use a tenth of the time at most, however many flows there are.
      await pause(Math.max(sweepEveryMs, (this.last?.tookMs ?? 0) * 10), signal);
      if (signal.aborted) return;
      if (this.parts.upgrade?.isPending) continue; // records that ended would be copied once more
      try {
        await this.sweep(signal);
      } catch (error) {
        if (!signal.aborted) log.error({}, `the sweep failed: ${String(error)}`);
      }
    }
  }

  private async sweep(signal: AbortSignal): Promise<void> {
    const { parts, options } = this;
    const devices = await parts.core.attachAgain();
    if (devices.length > 0)
      options.log.warn(
        { devices },
        `the program had been taken off ${devices.join(', ')}, by somebody else: it is put back`,
      );
    this.checkDelivery();
    parts.lent.noticeTaken();
    const counted = parts.choices.beginCount();
    this.last = await sweepFlows(
      {
        maps: parts.flowMaps,
        table: parts.flows,
        slots: parts.slots,
        chains: () => parts.core.liveTables?.chains ?? new Map(),
        monoMs: () => options.clock.monoMs(),
        nowNs: () => process.hrtime.bigint(),
        onRefresh: options.onRefresh,
        onUnrecorded: options.onUnrecorded,
        onEnded: options.onEnded,
        watch: this.flowLog ?? undefined,
      },
      signal,
    );
    counted(this.last.byPath);
    options.onSwept(this.last);
    this.flowLog?.swept();
    options.onTrouble('flows_full', this.pressure.look(this.room(this.last)));
    await parts.desks.snat.sweep(signal);
    await parts.desks.snatShare.extend(signal);
  }

  private room({ flows }: SweepResult): FlowRoom {
    const { flowMaps, counterMaps } = this.parts;
    const { promote_full: promotions = 0n, uncounted = 0n } = readStats(counterMaps);
    const { conn_full: packets = 0n } = readDrops(counterMaps);
    return { flows, limit: flowMaps.flows.maxEntries, refused: Number(packets + promotions + uncounted) };
  }

  private checkDelivery(): void {
    const { core, counterMaps } = this.parts;
    const model = core.running?.model;
    if (model === undefined) return;
    const linkOf = (device: string) => core.view.linkOf(device);
    const why = checkDelivery(this.delivery, { model, maps: counterMaps, linkOf });
    this.options.onTrouble('port_silent', why);
  }
}

/** Resolves after a time, or at once when the signal comes. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return setTimeoutAsync(ms, undefined, { signal }).catch(() => {});
}
