// SPDX-License-Identifier: Apache-2.0
/** What a node measures of itself, for stats-collector (gRPC ReportAttributes). A failure of it never touches packets. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { StatsCollectorClient } from '@detour/contracts';
import { describeError } from '@detour/core';
import { callUnary, connectClient } from '@detour/rpc';

/** Raw readings; parts that the machine does not have are null. */
export interface Readings {
  /** Jiffies since boot, of all CPUs: not idle, and all. */
  readonly cpu: { readonly busy: number; readonly all: number } | null;
  readonly memory: { readonly available: number; readonly total: number } | null;
  readonly connections: number | null;
  readonly uptime: number | null;
  readonly cores: number;
}

/** `/proc/stat`: user nice system idle iowait irq softirq steal. */
export function parseCpu(stat: string): { cpu: Readings['cpu']; cores: number } {
  const fields = /^cpu +([\d ]+)$/m.exec(stat)?.[1]?.split(' ').slice(0, 8).map(Number) ?? [];
  const all = fields.reduce((sum, one) => sum + one, 0);
  const cpu = fields.length < 5 ? null : { busy: all - (fields[3] ?? 0) - (fields[4] ?? 0), all };
  return { cpu, cores: [...stat.matchAll(/^cpu\d+ /gm)].length };
}

/** `/proc/meminfo`, bytes. */
export function parseMemory(meminfo: string): Readings['memory'] {
  const kb = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(meminfo)?.[1]);
  const [available, total] = [kb('MemAvailable') * 1024, kb('MemTotal') * 1024];
  return Number.isFinite(available) && total > 0 ? { available, total } : null;
}

function readProc(path: string): string | null {
  try {
    return readFileSync(`/proc/${path}`, 'utf8');
  } catch {
    return null; // this kernel has no such thing (connection tracking, say): it is not reported
  }
}

export function readMachine(): Readings {
  const { cpu, cores } = parseCpu(readProc('stat') ?? '');
  const number = (text: string | null) => (text === null ? null : Number.parseFloat(text));
  return {
    cpu,
    cores,
    memory: parseMemory(readProc('meminfo') ?? ''),
    connections: number(readProc('sys/net/netfilter/nf_conntrack_count')),
    uptime: number(readProc('uptime')),
  };
}

/** Attributes by their names in stats-collector; `bytes` is what crossed in both directions in `elapsedMs`. */
export function attributesOf(
  before: Readings,
  now: Readings,
  { bytes, elapsedMs }: { readonly bytes: number; readonly elapsedMs: number },
): Record<string, number> {
  const found: Record<string, number | null> = {
    cpu:
      before.cpu === null || now.cpu === null || now.cpu.all <= before.cpu.all
        ? null
        : (now.cpu.busy - before.cpu.busy) / (now.cpu.all - before.cpu.all),
    memory: now.memory === null ? null : 1 - now.memory.available / now.memory.total,
    memoryBytes: now.memory?.total ?? null,
    cores: now.cores === 0 ? null : now.cores,
    connections: now.connections,
    uptime: now.uptime,
    bytesPerSecond: elapsedMs > 0 ? (bytes * 1000) / elapsedMs : null,
  };
  return Object.fromEntries(Object.entries(found).filter((one): one is [string, number] => one[1] !== null));
}

export interface ReportSpec {
  readonly node: string;
  readonly to: string;
  readonly everyMs: number;
  readonly version: string;
  /** Bytes that have crossed so far. */
  readonly bytes: () => number;
}

export interface Reporting extends Disposable {
  /** What went wrong with the last report; null: it was taken whole, or none was sent yet. */
  trouble(): string | null;
}

/** Reports at the interval, the first at once; after a failure again at the next one. */
export function startReporting({ node, to, everyMs, version, bytes }: ReportSpec): Reporting {
  const connected = connectClient(StatsCollectorClient, to);
  const reporter = `detour-node/${version}@${hostname()}`;
  let trouble: string | null = null;
  let before = { readings: readMachine(), bytes: bytes(), at: performance.now() };
  let closed = false;
  const report = async (): Promise<void> => {
    const now = { readings: readMachine(), bytes: bytes(), at: performance.now() };
    const attributes = attributesOf(before.readings, now.readings, {
      bytes: now.bytes - before.bytes,
      elapsedMs: now.at - before.at,
    });
    before = now;
    try {
      const request = { node, reporter, gateway: '', atMs: BigInt(Date.now()), attributes };
      const { refused } = await callUnary(connected.client.reportAttributes.bind(connected.client), request, {
        deadlineMs: Math.min(everyMs, 3_000),
      });
      trouble = refused.length === 0 ? null : `stats-collector at ${to} refused ${refused.join('; ')}`;
    } catch (error) {
      if (!closed) trouble = `stats-collector at ${to}: ${describeError(error)}`;
    }
  };
  const timer = setInterval(() => void report(), everyMs);
  void report();
  return {
    trouble: () => trouble,
    [Symbol.dispose]: () => {
      closed = true;
      clearInterval(timer);
      connected[Symbol.dispose]();
    },
  };
}
