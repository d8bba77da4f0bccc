// SPDX-License-Identifier: Apache-2.0
// What this gateway measures about nodes: its counters' growth since the last look, its flows, and what bfd's probes measured. Pure but for
// what it remembers of the last look.
import type { NodeProbe } from '@detour/contracts';
import type { ConnectionAttribute } from '@detour/intent';

/** A node in one of its VRFs, as the datapath counts it. */
export interface NodeCount {
  readonly name: string;
  readonly number: number;
  readonly toPackets: bigint;
  readonly toBytes: bigint;
  readonly fromPackets: bigint;
  /** With data, of sampled TCP flows, and those of them that had been sent before. */
  readonly segments: bigint;
  readonly segmentsAgain: bigint;
  /** null: no flow has been looked at yet. */
  readonly flows: number | null;
}

export type NodeAttributes = Readonly<Partial<Record<ConnectionAttribute, number>>>;

interface Before {
  readonly count: NodeCount;
  readonly atMs: number;
}

interface Probed {
  sent: number;
  lost: number;
  rttUs: number | null;
}

export class NodeMeter {
  readonly #before = new Map<number, Before>();
  /** By node, then by VRF. */
  readonly #probed = new Map<string, Map<string, Probed>>();

  /** What bfd says; counts in the next look. */
  takeProbes(rows: readonly NodeProbe[]): void {
    for (const { node, vrf, sent, lost, rttUs } of rows) {
      const vrfs = this.#probed.get(node) ?? new Map<string, Probed>();
      this.#probed.set(node, vrfs);
      const held = vrfs.get(vrf) ?? { sent: 0, lost: 0, rttUs: null };
      held.sent += sent;
      held.lost += lost;
      if (rttUs !== undefined) held.rttUs = Math.min(held.rttUs ?? rttUs, rttUs);
      vrfs.set(vrf, held);
    }
  }

  /**
   * A look at all nodes that are attached now, by monotonic milliseconds. Rates need two looks; a counter that fell was made anew, and
   * begins again. Figures of nodes that are gone are forgotten.
   */
  look(counts: readonly NodeCount[], nowMs: number): Map<string, NodeAttributes> {
    const rows = groupByName(counts);
    const measured = new Map<string, NodeAttributes>();
    for (const [name, of] of rows) {
      const attributes = { ...this.#rates(of, nowMs), ...flowsOf(of), ...probesOf(this.#probed.get(name)) };
      if (Object.keys(attributes).length > 0) measured.set(name, attributes);
    }
    this.#probed.clear();
    this.#before.clear();
    for (const count of counts) this.#before.set(count.number, { count, atMs: nowMs });
    return measured;
  }

  #rates(of: readonly NodeCount[], nowMs: number): NodeAttributes {
    let bytesPerSecond = 0;
    let dropsPerSecond = 0;
    let [segments, again] = [0, 0];
    for (const now of of) {
      const before = this.#before.get(now.number);
      if (before === undefined || before.count.name !== now.name || nowMs <= before.atMs) return {};
      const { count } = before;
      if (now.toBytes < count.toBytes || now.fromPackets < count.fromPackets || now.segments < count.segments)
        return {};
      const perSecond = 1000 / (nowMs - before.atMs);
      const kept = now.toPackets - count.toPackets - (now.fromPackets - count.fromPackets);
      bytesPerSecond += Number(now.toBytes - count.toBytes) * perSecond;
      // What was under way at the last look comes back in this one: a few packets more than were sent.
      dropsPerSecond += Math.max(0, Number(kept)) * perSecond;
      segments += Number(now.segments - count.segments);
      again += Number(now.segmentsAgain - count.segmentsAgain);
    }
    return {
      ...{ bytesPerSecond: rounded(bytesPerSecond), dropsPerSecond: rounded(dropsPerSecond) },
      retransmissions: segments === 0 ? 0 : rounded(again / segments), // of nothing nothing was sent again
    };
  }
}

function groupByName(counts: readonly NodeCount[]): Map<string, NodeCount[]> {
  const rows = new Map<string, NodeCount[]>();
  for (const count of counts) rows.set(count.name, [...(rows.get(count.name) ?? []), count]);
  return rows;
}

function flowsOf(of: readonly NodeCount[]): NodeAttributes {
  let flows = 0;
  for (const count of of) {
    if (count.flows === null) return {};
    flows += count.flows;
  }
  return { flows };
}

/** Over the node's VRFs: the share of all probes, and the mean of their times. */
function probesOf(vrfs: ReadonlyMap<string, Probed> | undefined): NodeAttributes {
  const all = [...(vrfs?.values() ?? [])];
  const sent = all.reduce((sum, row) => sum + row.sent, 0);
  if (sent === 0) return {};
  const loss = rounded(all.reduce((sum, row) => sum + row.lost, 0) / sent);
  const times = all.flatMap(({ rttUs }) => (rttUs === null ? [] : [rttUs]));
  if (times.length === 0) return { loss };
  return { loss, rttMs: rounded(times.reduce((sum, us) => sum + us, 0) / times.length / 1000) };
}

function rounded(value: number): number {
  return Number(value.toFixed(4));
}
