// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { readAttributes, WANTED_METRICS } from './node-exporter.js';
import { parsePrometheusText } from './prometheus-text.js';

const NOW = 1_700_000_000_000;

function read(text: string, before: { idle: number; all: number } | null = null) {
  const parsed = parsePrometheusText(text, WANTED_METRICS);
  if (!parsed.ok) throw new Error(parsed.why);
  return readAttributes(parsed.samples, before, NOW);
}

describe('readAttributes', () => {
  it('takes connections, memory and uptime from one scrape, cpu from two', () => {
    const scrape = (idle: number, user: number) =>
      `node_nf_conntrack_entries 40
node_memory_MemAvailable_bytes 2.5e+09
node_memory_MemTotal_bytes 1e+10
node_time_seconds 1.7e9
node_boot_time_seconds 1.6999e9
node_cpu_seconds_total{cpu="0",mode="idle"} ${idle}
node_cpu_seconds_total{cpu="0",mode="user"} ${user}
node_cpu_seconds_total{cpu="1",mode="idle"} ${idle}
node_cpu_seconds_total{cpu="1",mode="user"} ${user}
`;
    const first = read(scrape(100, 10));
    expect(Object.fromEntries(first.values)).toEqual({ connections: 40, memory: 0.75, uptime: 100_000 });
    const second = read(scrape(103, 11), first.cpu);
    expect(second.values.get('cpu')).toBeCloseTo(0.25);
    expect(second.refused).toEqual([]);
  });

  it('gives no cpu after a reset of the counters, or when no time passed', () => {
    const text = 'node_cpu_seconds_total{mode="idle"} 5\nnode_cpu_seconds_total{mode="user"} 5';
    expect(read(text, { idle: 50, all: 60 }).values.has('cpu')).toBe(false);
    expect(read(text, { idle: 5, all: 10 }).values.has('cpu')).toBe(false);
  });

  it('refuses NaN, negative, absurd and future values by name', () => {
    const { values, refused } = read(
      `node_nf_conntrack_entries 1e12
node_memory_MemAvailable_bytes NaN
node_memory_MemTotal_bytes 10
node_time_seconds 5
node_boot_time_seconds 10
`,
    );
    expect(values.size).toBe(0);
    expect(refused).toEqual([
      'connections: 1000000000000 is outside 0..1000000000 (connections)',
      'memory: NaN is outside 0..1 (share)',
      'uptime: -5 is outside 0..3200000000 (s)',
    ]);
    const future = read(`node_nf_conntrack_entries 1 ${NOW + 60_000}`);
    expect(future.values.size).toBe(0);
    expect(future.refused[0]).toMatch(/^node_nf_conntrack_entries: timestamp: \d+ is 60000 ms in the future/);
  });
});
