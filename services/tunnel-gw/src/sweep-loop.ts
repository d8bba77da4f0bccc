// SPDX-License-Identifier: Apache-2.0
// The look at everything that goes on for as long as the gateway does: programs that were taken off, ports that deliver nothing, flows and
// pins, bindings of SNAT addresses.
import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import { checkDelivery } from './delivery-check.js';
import { DeliveryWatch } from './delivery-watch.js';
import type { GatewayOptions, GatewayParts } from './gateway-parts.js';
import { type SweepResult, sweepFlows } from './sweeper.js';

export class SweepLoop {
  /** Of the last whole sweep. */
  last: SweepResult | null = null;
  private readonly delivery = new DeliveryWatch();

  constructor(
    private readonly options: GatewayOptions,
    private readonly parts: GatewayParts,
  ) {}

  /** Resolves when the signal has come and nothing is under way. */
  async run(signal: AbortSignal): Promise<void> {
    const { sweepEveryMs, log } = this.options;
    while (!signal.aborted) {
      // A sweep may use a tenth of the time at most, however many flows there are.
      await pause(Math.max(sweepEveryMs, (this.last?.tookMs ?? 0) * 10), signal);
      if (signal.aborted) return;
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
      },
      signal,
    );
    counted(this.last.byPath);
    options.onSwept(this.last);
    await parts.desks.snat.sweep(signal);
    await parts.desks.snatShare.extend(signal);
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
