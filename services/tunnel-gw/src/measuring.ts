// SPDX-License-Identifier: Apache-2.0
// Looks at this gateway's nodes at an interval and reports what it measured; the next look waits until the last reports are settled.
import { type StateMirror, watchInstances } from '@detour/bus';
import type { NodeProbe } from '@detour/contracts';
import type { Clock, Log } from '@detour/core';
import { AttributeReporter } from './attribute-reporter.js';
import { readNode } from './counters.js';
import type { Gateway } from './gateway.js';
import { everyNode } from './model.js';
import { type NodeCount, NodeMeter } from './node-meter.js';

export interface MeasuringSpec {
  readonly name: string;
  readonly gateway: Gateway;
  readonly mirror: StateMirror;
  readonly everyMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Measuring extends Disposable {
  readonly counts: AttributeReporter['counts'];
  /** What bfd's probes measured. */
  takeProbes(rows: readonly NodeProbe[]): void;
}

export function startMeasuring({ name, gateway, mirror, everyMs, clock, log }: MeasuringSpec): Measuring {
  const collectors = watchInstances({ mirror, service: 'stats-collector', clock });
  const reporter = new AttributeReporter({ gateway: name, log, instances: () => collectors.addresses() });
  const meter = new NodeMeter();
  let ended = false;
  let cancel = () => {};
  const look = async (): Promise<void> => {
    const startMs = clock.monoMs();
    await reporter.report(meter.look(countsOf(gateway), startMs));
    if (!ended) cancel = clock.after(Math.max(0, startMs + everyMs - clock.monoMs()), () => void look());
  };
  cancel = clock.after(everyMs, () => void look());
  return {
    counts: reporter.counts,
    takeProbes: (rows) => meter.takeProbes(rows),
    [Symbol.dispose]: () => {
      ended = true;
      cancel();
      reporter[Symbol.dispose]();
      collectors[Symbol.dispose]();
    },
  };
}

function countsOf({ core, counterMaps, lastSweep }: Gateway): NodeCount[] {
  const { running } = core;
  if (running === null) return [];
  return everyNode(running.model).map(({ name, number }) => {
    const { toPackets, toBytes, fromPackets, segments, segmentsAgain } = readNode(counterMaps, number);
    const flows = lastSweep === null ? null : (lastSweep.byNode.get(number) ?? 0);
    return { name, number, toPackets, toBytes, fromPackets, segments, segmentsAgain, flows };
  });
}
