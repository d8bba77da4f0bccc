// SPDX-License-Identifier: Apache-2.0
// The simulated nodes, services, racks, chains and paths: made once from a size and a seed, and then only read.
import type { PathNodes } from '@detour/tables';
import { type Random, shuffled } from './random.js';
import type { Size } from './sizes.js';

export interface SimulatedNode {
  /** From 1, as in rows. */
  readonly number: number;
  /** Index into World.services. */
  readonly service: number;
  readonly capacity: number;
  readonly maxConnections: number;
  /** (0..1] of its service's flows. */
  readonly maxShare: number;
  /** Its own part in the load of the day: [0, 1). */
  readonly phase: number;
}

export interface SimulatedChain {
  readonly number: number;
  readonly name: string;
  readonly paths: readonly PathNodes[];
  /** How many of the flows are its. */
  readonly flows: number;
}

export interface World {
  /** By number; [0] is not there. */
  readonly nodes: ReadonlyMap<number, SimulatedNode>;
  /** Node numbers by service. */
  readonly services: readonly (readonly number[])[];
  /** Node numbers by rack. */
  readonly racks: readonly (readonly number[])[];
  readonly chains: readonly SimulatedChain[];
  /** Path numbers are 1..paths. */
  readonly paths: number;
}

const CAPACITIES = [50, 100, 100, 200] as const;
/** What a node's connections are when it has its share of the flows, as a part of maxConnections. */
const CONNECTIONS_IN_USE = 0.45;
/** Every so many nodes one is held to a share of its service: twice what it would have were all alike. */
const CAPPED_EVERY = 8;

export function makeWorld(size: Size, random: Random): World {
  const nodes = new Map<number, SimulatedNode>();
  const services: number[][] = [];
  const chains: SimulatedChain[] = [];
  const widths = size.chains.map((hops) => Math.min(...hops));
  const flows = shareOut(size.flows, widths);
  let paths = 0;
  for (const [i, hops] of size.chains.entries()) {
    const members = hops.map((count) => {
      const service = services.length;
      const made = Array.from({ length: count }, () => {
        const number = nodes.size + 1;
        const capacity = CAPACITIES[random.below(CAPACITIES.length)] ?? CAPACITIES[0];
        const fair = ((flows[i] ?? 0) / count) * (capacity / MEAN_CAPACITY);
        nodes.set(number, {
          ...{ number, service, capacity, phase: random.unit() },
          maxConnections: Math.max(1, Math.round(fair / CONNECTIONS_IN_USE)),
          maxShare: number % CAPPED_EVERY === 0 ? Math.min(1, 2 / count) : 1,
        });
        return number;
      });
      services.push(made);
      return made;
    });
    const combined = combinations(members).map(
      (path): PathNodes => ({ number: ++paths, nodes: path, skipped: 0, belowLevel: 0, hosts: path.length }),
    );
    chains.push({ number: i + 1, name: hops.join('x'), paths: combined, flows: flows[i] ?? 0 });
  }
  const racks = Array.from({ length: size.racks }, (): number[] => []);
  for (const [i, node] of shuffled([...nodes.keys()], random).entries()) racks[i % size.racks]?.push(node);
  return { nodes, services, racks, chains, paths };
}

const MEAN_CAPACITY = CAPACITIES.reduce((sum, one) => sum + one, 0) / CAPACITIES.length;

/** Whole parts of `total` by weight; what rounding leaves goes to the first. */
function shareOut(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((left, right) => left + right, 0);
  const parts = weights.map((weight) => Math.floor((total * weight) / sum));
  const rest = total - parts.reduce((left, right) => left + right, 0);
  return parts.map((part, i) => (i === 0 ? part + rest : part));
}

function combinations(members: readonly (readonly number[])[]): number[][] {
  return members.reduce<number[][]>(
    (begun, hop) => begun.flatMap((nodes) => hop.map((node) => [...nodes, node])),
    [[]],
  );
}
