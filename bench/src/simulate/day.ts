// SPDX-License-Identifier: Apache-2.0
/**
 * A day of a gateway and its controllers by a clock that is turned by hand: nodes' load changes scores, scores change weights, racks and nodes
 * go down and come back, flows end and others begin. After each step and each failure it is written down what that did.
 *
 * Order within a step: the clock is turned (scores are published, and what is to fail fails, each at its time); tables follow the scores; flows
 * end and begin. A failure is answered at once from the weights as they are, as a gateway does alone.
 */
import { hashKeyFromHex, type ManualClock, manualClock } from '@detour/core';
import type { NodeWorth } from '@detour/tables';
import { type PinMoves, pinMoves } from './accounting.js';
import { fairWorstOver } from './fair-draw.js';
import { FlowPopulation } from './flow-population.js';
import { GatewayTables } from './gateway-tables.js';
import { MaglevTables } from './maglev-tables.js';
import { changeOf, maglevChangeOf, sharesOf, spreadOf, worstNodeOver } from './measures.js';
import { Misfortune } from './misfortune.js';
import { readNode } from './node-load.js';
import { type Random, seededRandom } from './random.js';
import type { Failure, Sample } from './samples.js';
import { ScoreBoard } from './score-board.js';
import type { Size } from './sizes.js';
import { makeWorld, type World } from './world.js';

/** The revision's secret; another one gives other slots to flows, and the same figures but for chance. */
export const SECRET = hashKeyFromHex('0f1e2d3c4b5a6978');

export class Day {
  readonly samples: Sample[] = [];
  readonly failures: Failure[] = [];
  readonly world: World;
  readonly flows: FlowPopulation;
  readonly tables: GatewayTables;
  readonly misfortune: Misfortune;
  private readonly clock: ManualClock = manualClock(0);
  private readonly scores: ScoreBoard;
  private readonly maglev = new MaglevTables();
  private readonly lots: Random;
  private worths: ReadonlyMap<number, NodeWorth> = new Map();
  private connections: ReadonlyMap<number, number> = new Map();

  constructor(
    private readonly size: Size,
    seed: number,
  ) {
    const random = seededRandom(seed);
    const readings = seededRandom(seed + 1);
    this.lots = seededRandom(seed + 2);
    this.world = makeWorld(size, random);
    this.tables = new GatewayTables(this.world);
    this.flows = new FlowPopulation({ world: this.world, random: seededRandom(seed + 3), secret: SECRET });
    this.misfortune = new Misfortune({
      ...{ size, world: this.world, clock: this.clock, random },
      onDown: (name, nodes) => this.fail(name, nodes),
      onUp: (nodes) => this.comeBack(nodes),
    });
    this.scores = new ScoreBoard({
      ...{ world: this.world, clock: this.clock },
      read: (number) => {
        const node = this.world.nodes.get(number);
        if (node === undefined || !this.misfortune.isUp(number)) return null;
        const connections = this.connections.get(number) ?? 0;
        return readNode(node, { atMs: this.atMs, connections, random: readings });
      },
    });
    this.follow();
    for (const table of this.tables.inForce) this.flows.beginAll(table);
    this.connections = this.countConnections();
  }

  get atMs(): number {
    return this.clock.monoMs();
  }

  get isOver(): boolean {
    return this.atMs >= this.size.endMs;
  }

  step(): void {
    const { tables, scores, flows, size } = this;
    const since = { built: tables.built, buildMs: tables.buildMs, published: scores.published };
    this.clock.advance(size.stepMs);
    const before = tables.inForce;
    const pins = this.movedBy(() => this.follow());
    flows.takeBegun();
    for (const table of tables.inForce)
      flows.turnOver(table, Math.round((table.chain.flows * size.stepMs) / size.flowLifeMs));
    this.connections = this.countConnections();
    this.samples.push({
      atMs: this.atMs,
      published: scores.published - since.published,
      built: tables.built - since.built,
      buildMs: tables.buildMs - since.buildMs,
      bytes: tables.bytes,
      ...changeOf(before, tables.inForce),
      ...spreadOf(tables.inForce, (table) => this.maglev.tableOf(table), this.shareOf),
      ...this.spreadOfBegun(flows.takeBegun()),
      pins,
    });
  }

  /** Tables follow the scores as they are now. */
  private follow(chains = this.world.chains): void {
    this.worths = this.scores.worths((node) => this.misfortune.isDrained(node));
    this.tables.weigh(this.worths, chains);
    this.expand();
  }

  private expand(): void {
    this.tables.expand((node) => (this.misfortune.isUp(node) ? 'up' : 'down'));
  }

  /** Weights stay as they are: no controller is asked. */
  private fail(name: string, nodes: readonly number[]): void {
    const { tables, world, maglev } = this;
    const before = tables.inForce;
    const maglevBefore = before.map((table) => maglev.tableOf(table));
    const { buildMs } = tables;
    const gone = new Set(nodes);
    let flows = 0;
    for (const path of world.chains.flatMap(({ paths }) => paths))
      if (path.nodes.some((node) => gone.has(node))) flows += this.flows.liveByPath[path.number] ?? 0;
    const pins = this.movedBy(() => this.expand());
    this.connections = this.countConnections();
    const maglevAfter = tables.inForce.map((table) => maglev.tableOf(table));
    this.failures.push({
      ...{ atMs: this.atMs, name, nodes: nodes.length, flows, pins },
      buildMs: tables.buildMs - buildMs,
      ...changeOf(before, tables.inForce),
      maglev: maglevChangeOf(world.chains, maglevBefore, maglevAfter),
    });
  }

  /** Their scores are those of nodes that did not answer until now, so they take no flows before they are scored again. */
  private comeBack(nodes: readonly number[]): void {
    const back = new Set(nodes);
    this.follow(
      this.world.chains.filter(({ paths }) =>
        paths.some((path) => path.nodes.some((node) => back.has(node))),
      ),
    );
  }

  /** Changes tables, then lets every flow have its next packet. */
  private movedBy(change: () => void): PinMoves {
    const before = this.flows.paths.slice();
    change();
    for (const table of this.tables.inForce) this.flows.renew(table);
    const down = new Set([0]);
    for (const { number, nodes } of this.world.chains.flatMap(({ paths }) => paths))
      if (nodes.some((node) => !this.misfortune.isUp(node))) down.add(number);
    return pinMoves(before, this.flows.paths, (path) => down.has(path));
  }

  private readonly shareOf = (node: number): number =>
    sharesOf(this.worths, (other) => this.misfortune.isUp(other))(node);

  private spreadOfBegun(begunOn: Uint32Array): Pick<Sample, 'begun' | 'begunOverNode' | 'lotOverNode'> {
    const { world, shareOf, lots } = this;
    let [begun, begunOverNode, lotOverNode] = [0, 0, 0];
    for (const chain of world.chains) {
      const begunHere = chain.paths.reduce((sum, { number }) => sum + (begunOn[number] ?? 0), 0);
      begun += begunHere;
      begunOverNode = Math.max(
        begunOverNode,
        worstNodeOver(chain, (path) => begunOn[path] ?? 0, shareOf),
      );
      const services = new Set(chain.paths[0]?.nodes.map((node) => world.nodes.get(node)?.service));
      for (const service of services) {
        const shares = world.services[service ?? -1]?.map(shareOf) ?? [];
        lotOverNode = Math.max(lotOverNode, fairWorstOver(shares, begunHere, lots));
      }
    }
    return { begun, begunOverNode, lotOverNode };
  }

  private countConnections(): ReadonlyMap<number, number> {
    const counts = new Map<number, number>();
    for (const { number, nodes } of this.world.chains.flatMap(({ paths }) => paths))
      for (const node of nodes)
        counts.set(node, (counts.get(node) ?? 0) + (this.flows.liveByPath[number] ?? 0));
    return counts;
  }
}
