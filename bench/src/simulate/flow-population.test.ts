// SPDX-License-Identifier: Apache-2.0
import type { FlowKey } from '@detour/core';
import { choosePath } from '@detour/tables';
import { beforeAll, describe, expect, it } from 'vitest';
import { SECRET } from './day.js';
import { FlowPopulation, tupleSource } from './flow-population.js';
import { GatewayTables, type TableInForce } from './gateway-tables.js';
import { seededRandom } from './random.js';
import { SIZES } from './sizes.js';
import { makeWorld } from './world.js';

const SEED = 5;
const size = SIZES.tiny;

/** The same flows one by one, as objects that keep their whole key. */
class NaiveFlows {
  readonly flows: { key: FlowKey; initiatorIsB: boolean; path: number }[] = [];
  private readonly random = seededRandom(SEED);
  private readonly draw = tupleSource(this.random);

  begin(at: number, { expanded }: TableInForce): void {
    const { key, norm } = this.draw();
    const flow = { key: { ...key, a: key.a.slice(), b: key.b.slice() }, initiatorIsB: norm === 1 };
    const path = choosePath(expanded, flow.key, { initiatorIsB: flow.initiatorIsB, secret: SECRET }) ?? 0;
    this.flows[at] = { ...flow, path };
  }

  turnOver(table: TableInForce, { from, to, count }: { from: number; to: number; count: number }): void {
    for (let i = 0; i < count; i++) this.begin(from + this.random.below(to - from), table);
  }

  renew(tables: readonly TableInForce[]): void {
    for (const { expanded, heirs } of tables)
      for (const flow of this.flows) {
        if (expanded.paths.find(({ path }) => path === flow.path)?.state !== 'down') continue;
        const { key, initiatorIsB } = flow;
        flow.path = heirs.get(flow.path) ?? choosePath(expanded, key, { initiatorIsB, secret: SECRET }) ?? 0;
      }
  }

  get paths(): number[] {
    return this.flows.map(({ path }) => path);
  }
}

describe('FlowPopulation', () => {
  const world = makeWorld(size, seededRandom(1));
  const tables = new GatewayTables(world);
  const flows = new FlowPopulation({ world, random: seededRandom(SEED), secret: SECRET });
  const naive = new NaiveFlows();
  const worths = new Map(
    [...world.nodes.values()].map(({ number, capacity }) => [
      number,
      { score: capacity, capacity, drained: false },
    ]),
  );
  const healthIs = (down: readonly number[]) =>
    tables.expand((node) => (down.includes(node) ? 'down' : 'up'));
  const countNaive = () => {
    const counts = new Array<number>(world.paths + 1).fill(0);
    for (const path of naive.paths) counts[path] = (counts[path] ?? 0) + 1;
    return counts;
  };

  beforeAll(() => {
    tables.weigh(worths);
    healthIs([]);
    for (const table of tables.inForce) {
      flows.beginAll(table);
      const { from, to } = flows.rangeOf(table.chain.number);
      for (let at = from; at < to; at++) naive.begin(at, table);
    }
  });

  it('gives each flow the path that choosePath gives its key', () => {
    expect([...flows.paths]).toEqual(naive.paths);
    expect([...flows.liveByPath]).toEqual(countNaive());
    expect([...flows.takeBegun()]).toEqual(countNaive());
    expect(new Set(flows.paths).size).toBe(world.paths);
  });

  it('moves the flows of dead nodes to heirs or slots, and lets the others be', () => {
    const before = [...flows.paths];
    const dead = world.racks[1] ?? [];
    healthIs(dead);
    for (const table of tables.inForce) flows.renew(table);
    naive.renew(tables.inForce);
    expect([...flows.paths]).toEqual(naive.paths);
    expect([...flows.liveByPath]).toEqual(countNaive());
    const nodesOf = new Map(
      world.chains.flatMap(({ paths }) => paths).map(({ number, nodes }) => [number, nodes]),
    );
    const onDead = (path: number) => nodesOf.get(path)?.some((node) => dead.includes(node)) === true;
    expect(before.filter(onDead).length).toBeGreaterThan(0);
    expect(before.map((path, i) => path !== flows.paths[i])).toEqual(before.map(onDead));
    expect([...flows.takeBegun()].every((count) => count === 0)).toBe(true);
  });

  it('replaces flows that end by others, which take their path from the tables as they are now', () => {
    for (const table of tables.inForce) {
      const { from, to } = flows.rangeOf(table.chain.number);
      flows.turnOver(table, 500);
      naive.turnOver(table, { from, to, count: 500 });
    }
    expect([...flows.paths]).toEqual(naive.paths);
    expect([...flows.liveByPath]).toEqual(countNaive());
    expect(flows.takeBegun().reduce((sum, count) => sum + count, 0)).toBe(500 * world.chains.length);
  });

  it('drops the flows of a chain without a path, and they begin again when it has one', () => {
    const [chain] = world.chains.slice(-1);
    const members = [...new Set(chain?.paths.flatMap(({ nodes }) => nodes))];
    healthIs(members);
    for (const table of tables.inForce) flows.renew(table);
    const { from, to } = flows.rangeOf(chain?.number ?? 0);
    expect(flows.liveByPath[0]).toBe(to - from);
    healthIs([]);
    for (const table of tables.inForce) flows.renew(table);
    expect(flows.liveByPath[0]).toBe(0);
  });
});
