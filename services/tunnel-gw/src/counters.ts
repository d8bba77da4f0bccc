// SPDX-License-Identifier: Apache-2.0
// What the datapath has counted, summed over the CPUs: drops by reason, verdicts, ports, rules, nodes, and the last example of each drop.
import { type BpfMap, perCpuValues } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { tupleOf } from '@detour/core';
import type { PortModel } from './model.js';

export interface CounterMaps {
  readonly drops: BpfMap;
  readonly stats: BpfMap;
  readonly ports: BpfMap;
  /** Frames handed to devices, by ifindex modulo DT_SENT_ROWS. */
  readonly sent: BpfMap;
  readonly rules: BpfMap;
  readonly nodes: BpfMap;
  readonly examples: BpfMap;
}

/** Lower-case names without their prefix, as people and programs read them. */
export function dropName(reason: number): string {
  return (abi.dropReasonName(reason) ?? `DROP_${reason}`).replace('DROP_', '').toLowerCase();
}

export function readDrops(maps: CounterMaps): Record<string, bigint> {
  const drops: Record<string, bigint> = {};
  for (let reason = 1; reason < abi.DropReason.DROP_REASONS; reason++)
    drops[dropName(reason)] = sumU64(maps.drops, reason);
  return drops;
}

export function readStats(maps: CounterMaps): Record<string, bigint> {
  const stats: Record<string, bigint> = {};
  for (let stat = 0; stat < abi.Stat.STATS; stat++) {
    stats[(abi.statName(stat) ?? `STAT_${stat}`).replace('STAT_', '').toLowerCase()] = sumU64(
      maps.stats,
      stat,
    );
  }
  return stats;
}

export function readPort(maps: CounterMaps, number: number): abi.PortCounters {
  return sumStructs(maps.ports, number, abi.portCounters.decode);
}

/**
 * Packets that came in by ports and were not for the gateway itself: what routers and hosts send here to be forwarded. VTIs and VLANs are left
 * out: their rows count what the gateway's own kernel sends as well.
 */
export function readArrivals(maps: CounterMaps, ports: readonly PortModel[]): bigint {
  return ports.reduce((sum, { number, tunnel, vlan }) => {
    if (tunnel !== null || vlan !== null) return sum;
    const { forwarded, punted, dropped } = readPort(maps, number);
    return sum + forwarded + punted + dropped;
  }, 0n);
}

/** Frames handed to devices whose index falls into the same row as this one's. */
export function readSent(maps: CounterMaps, ifindex: number): bigint {
  return sumU64(maps.sent, ifindex % abi.DetourLimit.DT_SENT_ROWS);
}

export function readRule(maps: CounterMaps, number: number): abi.PairCounters {
  return sumStructs(maps.rules, number, abi.pairCounters.decode);
}

export function readNode(maps: CounterMaps, number: number): abi.NodeCounters {
  return sumStructs(maps.nodes, number, abi.nodeCounters.decode);
}

export interface DropExample {
  readonly reason: string;
  readonly tuple: ReturnType<typeof tupleOf>;
  readonly port: number;
  readonly agoMs: number;
}

export function readExamples(maps: CounterMaps): DropExample[] {
  const examples: DropExample[] = [];
  for (let reason = 1; reason < abi.DropReason.DROP_REASONS; reason++) {
    const row = maps.examples.lookup(u32(reason));
    if (row === undefined) continue;
    const example = abi.dropExample.decode(row);
    if (example.atNs === 0n) continue;
    const tuple = tupleOf(example.key, 0);
    examples.push({
      reason: dropName(reason),
      tuple,
      port: example.port,
      agoMs: Number(agoMs(example.atNs)),
    });
  }
  return examples;
}

/** How long ago the datapath noted a time. Packets go on while rows are read, so the clock is read afterwards. */
export function agoMs(atNs: bigint): bigint {
  const passedNs = process.hrtime.bigint() - atNs;
  return passedNs > 0n ? passedNs / 1_000_000n : 0n;
}

function sumU64(map: BpfMap, index: number): bigint {
  const stored = map.lookup(u32(index));
  if (stored === undefined) return 0n;
  return perCpuValues(map, stored).reduce(
    (sum, value) => sum + new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true),
    0n,
  );
}

function sumStructs<T extends object>(map: BpfMap, index: number, decode: (bytes: Uint8Array) => T): T {
  const stored = map.lookup(u32(index)) ?? new Uint8Array(map.storedSize);
  const [first, ...rest] = perCpuValues(map, stored).map((value) => decode(value));
  if (first === undefined) throw new RangeError('a per-CPU map has no CPU');
  const sum: Record<string, bigint> = {};
  for (const row of [first, ...rest])
    for (const [name, value] of Object.entries(row)) sum[name] = (sum[name] ?? 0n) + BigInt(value as bigint);
  return sum as T;
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
