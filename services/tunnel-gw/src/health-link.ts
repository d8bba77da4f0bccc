// SPDX-License-Identifier: Apache-2.0
// The stream from this machine's bfd: every change of a node's health goes straight into the tables; when it breaks, health is stale.
import { BfdClient, type HealthReport, type NodeProbe } from '@detour/contracts';
import { describeError, type Log } from '@detour/core';
import { connectClient, followStream } from '@detour/rpc';

export interface HealthLinkOptions {
  readonly address: string; // unix:/…
  readonly gateway: string;
  /** How often it is to say what probes measured, ms. */
  readonly measureEveryMs: number;
  readonly signal: AbortSignal;
  readonly log: Log;
  readonly onReport: (report: HealthReport) => void;
  readonly onMeasured: (rows: readonly NodeProbe[]) => void;
  readonly onLost: (why: string) => void;
}

const RETRY_MS = 100;

/** Runs until the signal; connects again and again, each time beginning with a snapshot. Never rejects. */
export async function followHealth(options: HealthLinkOptions): Promise<void> {
  const { signal, log, gateway, measureEveryMs } = options;
  let lost = false;
  while (!signal.aborted) {
    try {
      using connection = connectClient(BfdClient, options.address);
      const onReport = (report: HealthReport) => {
        if (lost) log.info({}, 'bfd is back');
        lost = false;
        if (report.measured.length > 0) options.onMeasured(report.measured);
        else options.onReport(report);
      };
      const stream = connection.client.watchHealth({ gateway, measureEveryMs });
      await followStream(stream, onReport, { signal });
      throw new Error('bfd ended the stream');
    } catch (error) {
      if (signal.aborted) return;
      if (!lost) {
        options.onLost(`bfd does not answer at ${options.address}: ${describeError(error)}`);
        log.warn(
          {},
          `bfd does not answer at ${options.address}: ${describeError(error)}; the last known health stays in force`,
        );
      }
      lost = true;
    }
    await new Promise<void>((resolve) => setTimeout(resolve, RETRY_MS));
  }
}
