// SPDX-License-Identifier: Apache-2.0
/**
 * program.*: nanoseconds of one run of the gateway's program, beside the bare XDP forwarder's, both net of a program that does nothing.
 *
 * The kernel's own statistics time every run in its place, on real packets that come and go: a trip's two crossings are two runs, and what
 * is said is their mean. program.new is the trip of a flow that nobody knows: looked up in 10,000 rules, given a path, recorded and sent on; its
 * mean is that of both crossings. program.asked is such a packet up to the event that holds it for user space. program.new.rate is how many
 * such flows a second arrive at the sink, generator, node and sink on the same CPU.
 */
import type { BpfProgram } from '@detour/bpf';
import { RuleImage } from '@detour/tables';
import type { BenchContext, Figure } from '../figure.js';
import { ratioFigure, valueFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { makeRules, trafficOf } from '../tables/rule-set.js';
import { meanRun } from './bpf-stats.js';
import { decideInKernel } from './edge-tables.js';
import type { LaneName } from './lanes.js';
import type { Track, TripOptions } from './track.js';

const MS = 300;
const FLOWS = 1_000;
/** Sources that nobody has recorded: 10.9.0.0/16. */
const UNKNOWN_BASE = 0x0a09_0001;
const UNKNOWN_FLOWS = 1_000_000;
const RULES = 10_000;

export async function measurePrograms(
  context: BenchContext,
  track: Track,
  sizes: readonly { readonly name: string; readonly flows: number }[],
): Promise<Figure[]> {
  const edge = track.edge.program('detour_edge');
  const time = (program: BpfProgram, lane: LaneName, trip: Partial<TripOptions> = {}): Promise<number> =>
    meanRun(program, () => track.trip({ lane, flows: FLOWS, ms: MS, timed: true, ...trip }));
  const image = new RuleImage({ copies: 1 });
  image.apply({ upserts: makeRules(RULES), removes: [] });
  const decided = { ...trafficOf(RULES), warmPackets: 20_000, ms: MS };
  const unknown = { flows: UNKNOWN_FLOWS, base: UNKNOWN_BASE, warmPackets: 2_000, ms: 100 };
  const samples = await measureRounds(context, 'program', {
    empty: () => time(track.empty, 'empty'),
    forwarder: () => time(track.forwarder, 'forwarder'),
    ...Object.fromEntries(
      sizes.map(({ name, flows }) => [`edge ${name}`, () => time(edge, 'steer', { flows })]),
    ),
    asked: () => {
      decideInKernel(track.edge, null);
      return time(edge, 'steer', unknown);
    },
    new: () => {
      decideInKernel(track.edge, image);
      return time(edge, 'steer', decided);
    },
    rate: async () => (await track.trip({ lane: 'steer', ...decided })).pps,
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
    ratioFigure({
      name: 'program.new',
      unit: 'ns',
      values: net('new'),
      baselines,
      goal: { of: 'ratio', atMost: 3 },
    }),
    ratioFigure({ name: 'program.asked', unit: 'ns', values: net('asked'), baselines }),
    valueFigure({
      name: 'program.new.rate',
      unit: '/s',
      values: samples.of('rate'),
      goal: { of: 'value', atLeast: 300_000 },
    }),
  ];
}
