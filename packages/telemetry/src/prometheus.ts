// SPDX-License-Identifier: Apache-2.0
// Metrics as Prometheus text when somebody asks; runtime serves it.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Meter } from '@opentelemetry/api';
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { MetricReader } from '@opentelemetry/sdk-metrics';

export class PrometheusReader extends MetricReader {
  #serializer = new PrometheusSerializer('', false, undefined, false, true);

  /** The present state of all instruments, in the text format 0.0.4. */
  async text(): Promise<string> {
    const { resourceMetrics, errors } = await this.collect();
    const failed = errors.map(
      (error) => `# a metric could not be read: ${String(error).replaceAll('\n', ' ')}\n`,
    );
    return this.#serializer.serialize(resourceMetrics) + failed.join('');
  }
  protected async onForceFlush(): Promise<void> {}
  protected async onShutdown(): Promise<void> {}
}

/** Memory, processor time and event loop lag of this process; the returned function ends the measuring. */
export function measureProcess(meter: Meter): () => void {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  meter
    .createObservableGauge('process_resident_memory_bytes', { description: 'resident memory' })
    .addCallback((result) => result.observe(process.memoryUsage.rss()));
  meter
    .createObservableCounter('process_cpu_seconds', { description: 'user and system time used' })
    .addCallback((result) => {
      const { user, system } = process.cpuUsage();
      result.observe((user + system) / 1e6);
    });
  meter
    .createObservableGauge('nodejs_eventloop_lag_max_seconds', {
      description: 'longest delay of the event loop since the last scrape',
    })
    .addCallback((result) => {
      result.observe(delay.max / 1e9);
      delay.reset();
    });
  return () => delay.disable();
}
