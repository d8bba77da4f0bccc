// SPDX-License-Identifier: Apache-2.0
// What a node's exporter would say at a time of the day: load that comes and goes, more of it the more connections the node has, and noise.
import type { FormulaAttribute } from '@detour/intent';
import type { Random } from './random.js';
import type { SimulatedNode } from './world.js';

const DAY_MS = 86_400_000;
/** How far nodes are apart in the course of the day. */
const PHASES = 0.25;
const FLOW_BYTES_PER_SECOND = 10_000;

/** Every attribute that a formula may name. `connections`: how many flows have this node on their path now. */
export function readNode(
  node: SimulatedNode,
  {
    atMs,
    connections,
    random,
  }: { readonly atMs: number; readonly connections: number; readonly random: Random },
): Record<FormulaAttribute, number> {
  const noise = (most: number) => (random.unit() * 2 - 1) * most;
  const demand = timeOfDay(atMs / DAY_MS + node.phase * PHASES);
  const busy = connections / node.maxConnections;
  return {
    capacity: node.capacity,
    maxConnections: node.maxConnections,
    connections,
    cpu: between(0.08 + 0.25 * demand + 0.55 * demand * busy + noise(0.02), 0, 1),
    memory: between(0.25 + 0.4 * busy + noise(0.02), 0, 1),
    rttMs: between(0.8 + 1.5 * demand + noise(0.3), 0.1, 60_000),
    loss: random.below(500) === 0 ? 0.02 : 0,
    flows: connections,
    bytesPerSecond: connections * FLOW_BYTES_PER_SECOND,
    dropsPerSecond: 0,
    retransmissions: 0,
    zoneFactor: 1,
  };
}

/** 0 at night, 1 at noon: a parabola, whose value is the same on every machine. */
function timeOfDay(days: number): number {
  const part = days - Math.floor(days);
  return 1 - (2 * part - 1) ** 2;
}

function between(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
