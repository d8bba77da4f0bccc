// SPDX-License-Identifier: Apache-2.0
/**
 * program.*: nanoseconds of one run of the gateway's program, beside the bare XDP forwarder's, both net of a program that does nothing.
 *
 * The kernel's own statistics time every run in its place, on real packets that come and go: a trip's two crossings are two runs, and what
 * is said is their mean. program.new is a packet of a flow that nobody knows, up to the event that holds it for user space.
 */
import { type BpfProgram, programInfo } from '@detour/bpf';
import type { BenchContext, Figure } from '../figure.js';
import { ratioFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import type { LaneName } from './lanes.js';
import type { Track, TripOptions } from './track.js';

const MS = 300;
const FLOWS = 1_000;
/** Sources that nobody has recorded: 10.9.0.0/16. */
const UNKNOWN_BASE = 0x0a09_0001;
const UNKNOWN_FLOWS = 1_000_000;

export async function measurePrograms(
  context: BenchContext,
  track: Track,
  sizes: readonly { readonly name: string; readonly flows: number }[],
): Promise<Figure[]> {
  const edge = track.edge.program('detour_edge');
  const time = (program: BpfProgram, lane: LaneName, trip: Partial<TripOptions> = {}): Promise<number> =>
    meanRun(program, () => track.trip({ lane, flows: FLOWS, ms: MS, timed: true, ...trip }));
  const unknown = { flows: UNKNOWN_FLOWS, base: UNKNOWN_BASE, warmPackets: 2_000, ms: 100 };
  const samples = await measureRounds(context, 'program', {
    empty: () => time(track.empty, 'empty'),
    forwarder: () => time(track.forwarder, 'forwarder'),
    ...Object.fromEntries(
      sizes.map(({ name, flows }) => [`edge ${name}`, () => time(edge, 'steer', { flows })]),
    ),
    new: () => time(edge, 'steer', unknown),
  });
  const net = (side: string): number[] =>
    samples.of(side).map((ns, round) => ns - (samples.of('empty')[round] ?? Number.NaN));
  const baselines = net('forwarder');
  return [
    ...sizes.map(({ name }) =>
      ratioFigure({
        name: `program.established[${name}]`,
        unit: 'ns',
        values: net(`edge ${name}`),
        baselines,
        ...(name === '1k' ? { goal: { of: 'ratio', atMost: 1.5 } as const } : {}),
      }),
    ),
    ratioFigure({ name: 'program.new', unit: 'ns', values: net('new'), baselines }),
  ];
}

async function meanRun(program: BpfProgram, work: () => Promise<unknown>): Promise<number> {
  const before = programInfo(program.fd);
  await work();
  const after = programInfo(program.fd);
  return Number(after.runTimeNs - before.runTimeNs) / Number(after.runCount - before.runCount);
}
