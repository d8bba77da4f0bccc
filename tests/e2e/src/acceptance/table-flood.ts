// SPDX-License-Identifier: Apache-2.0
/** Tables that change with every report, some hundred times a second, while flows are streamed as fast as the machine takes them. */
import { availableParallelism } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import type { Crowd } from './crowd.js';
import type { FlowRange } from './crowd-protocol.js';
import type { Reports } from './reports.js';

const MEASURE_MS = 2_000;
const FLOOD_MS = 10_000;
/** More often than tables are asked for: two that come close together make one. */
const REPORT_EVERY_MS = 7;
/** A generation is 16 bits, and never 0. */
const GENERATIONS = 0xffff;

export interface TableFlood {
  readonly crowd: Pick<Crowd, 'client' | 'keepTo' | 'giveWay'>;
  readonly reports: Reports;
  /** These report, in turn. */
  readonly nodes: readonly string[];
  /** Known to the gateways by now. */
  readonly flows: FlowRange;
  /** Of the chain's table at each gateway. */
  readonly generations: () => Promise<readonly number[]>;
}

export interface Flooded {
  /** Packets/s sent, 80 % of `highest`, the most that were answered. */
  readonly pps: number;
  readonly highest: number;
  /** Generations of the table at each gateway, per second. */
  readonly perS: readonly number[];
}

/** The crowd has a CPU after everybody else from here on. */
export async function floodTables(flood: TableFlood): Promise<Flooded> {
  const { crowd, reports, nodes, flows, generations } = flood;
  await crowd.keepTo(availableParallelism() - 1);
  const highest = await highestRate(flood);
  await crowd.giveWay();
  const first = await generations();
  const pps = Math.floor(highest * 0.8);
  await crowd.client.stream(flows, pps);
  const began = performance.now();
  const sent: Promise<void>[] = [];
  for (let round = 0; performance.now() - began < FLOOD_MS; round++) {
    // Not waited for: what is on its way for one node does not hold up the others
    sent.push(reports.set(nodes[round % nodes.length] ?? '', { cpu: ((round % 9) + 1) / 10 }));
    await pause(Math.max(0, began + round * REPORT_EVERY_MS - performance.now()));
  }
  await Promise.all(sent);
  const tookS = (performance.now() - began) / 1_000;
  const last = await generations();
  await crowd.client.stop();
  await pause(500); // what is still on its way
  const perS = last.map((gen, i) => ((gen - (first[i] ?? 0) + GENERATIONS) % GENERATIONS) / tookS);
  console.info(
    `${pps} packets/s of ${highest}; ${perS.map(Math.round).join(' and ')} generations/s over ${tookS.toFixed(1)} s`,
  );
  return { pps, highest, perS };
}

/** The most messages a second that were answered, of rates that grow until fewer than nine in ten are. */
async function highestRate(flood: TableFlood): Promise<number> {
  let highest = 0;
  for (let pps = 5_000; ; pps *= 1.5) {
    const answered = await answersAt(Math.round(pps), flood);
    highest = Math.max(highest, answered);
    if (answered < 0.9 * pps) return highest;
  }
}

async function answersAt(pps: number, { crowd: { client }, flows }: TableFlood): Promise<number> {
  const answers = async () => (await client.report()).received.answer;
  const before = await answers();
  const began = performance.now();
  await client.stream(flows, pps);
  await pause(MEASURE_MS);
  const rate = (1_000 * ((await answers()) - before)) / (performance.now() - began);
  await client.stop();
  await pause(500); // what is still on its way
  return Math.round(rate);
}
