// SPDX-License-Identifier: Apache-2.0
/**
 * steer.*: what it costs to take established flows through a service node and back.
 *
 * steer.pps          packets/s of the whole trip (two crossings of the gateway), beside plain kernel forwarding of the same packets
 * steer.limit        crossings/s net of generator and reflector, beside a bare XDP forwarder's net of the generator
 * steer.kernel-way   packets/s of the whole trip, beside the same trip built by hand from kernel parts
 * steer.firewall     the same two, through a firewall that filters and tracks connections: reported, not aimed at
 *
 * Everything runs on one CPU, so times add up: a trip's cost is 1 / rate. Rates are counted at the sink.
 */
import { freemem } from 'node:os';
import { Fault } from '@detour/core';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { ratioFigure, valueFigure } from '../figure.js';
import { measureRounds, type Samples } from '../rounds.js';
import { summarise } from '../statistics.js';
import { restoringBpfStats } from './bpf-stats.js';
import { VRF_POINTS, vrfFlows } from './crowd.js';
import { CURVE_FLOWS, measureCurves } from './curves.js';
import { type RecordedFlows, recordFlows } from './flow-records.js';
import { FIREWALL, REFLECTOR } from './lanes.js';
import { measurePrograms } from './programs.js';
import { measureSnat } from './snat.js';
import { SNAT_IN, SNAT_OUT, SNAT_REPLIES } from './snat-tables.js';
import { HOPS, hopsPath, KINDS, kindPath } from './stations.js';
import { openTrack, type Track, type Trip } from './track.js';

const SIZES = [
  { name: '1', flows: 1 },
  { name: '1k', flows: 1_000 },
  { name: '100k', flows: 100_000 },
] as const;
/** Measured where there is memory for it. */
const MOONSHOT = { name: '1M', flows: 1_000_000 } as const;
const MOONSHOT_BYTES = 4e9;
const FIREWALL_FLOWS = 1_000;
const LIMIT_SIZE = '1k';
const RATES = ['pps', 'limit', 'kernel-way', 'firewall', 'generator'].map((name) => `steer.${name}`);
const PROGRAMS = ['program.established', 'program.new', 'program.asked'];

export const steer: Benchmark = {
  name: 'steer',
  also: ['program'],
  what: 'established flows through one node and back, beside kernel forwarding, an XDP forwarder and the kernel way',
  run: async (context) => {
    const sizes = freemem() > MOONSHOT_BYTES ? [...SIZES, MOONSHOT] : [...SIZES];
    const chosen = chooseSizes(sizes, context.flows);
    const most = Math.max(...sizes.map(({ flows }) => flows));
    context.progress.step('steer: building the lanes');
    const curves: RecordedFlows[] = [
      ...HOPS.map(hopsPath),
      ...KINDS.map(kindPath),
      ...VRF_POINTS.map(vrfFlows),
      ...[SNAT_OUT, SNAT_REPLIES, SNAT_IN],
    ];
    await using track = await openTrack({
      name: 'bench-steer',
      flowCapacity: most + FIREWALL_FLOWS + curves.length * CURVE_FLOWS + 1,
    });
    context.progress.step(`steer: recording ${most} flows`);
    await recordFlows(track.edge, REFLECTOR, { from: 0, to: most, slotBase: 1 });
    await recordFlows(track.edge, FIREWALL, { from: 0, to: FIREWALL_FLOWS, slotBase: most + 1 });
    for (const [i, flows] of curves.entries())
      await recordFlows(track.edge, flows, {
        from: 0,
        to: CURVE_FLOWS,
        slotBase: most + FIREWALL_FLOWS + 1 + i * CURVE_FLOWS,
      });
    return await restoringBpfStats(async () => [
      ...(RATES.some((name) => context.wants(name)) ? await measureRates(context, track, chosen) : []),
      ...(await measureCurves(context, track)),
      ...(context.wants('program.snat') ? await measureSnat(context, track) : []),
      ...(PROGRAMS.some((name) => context.wants(name)) ? await measurePrograms(context, track, chosen) : []),
    ]);
  },
};

/** The sizes asked for; the table is the same whichever they are. */
function chooseSizes(sizes: readonly Size[], names: readonly string[]): readonly Size[] {
  const unknown = names.filter((wanted) => !sizes.some(({ name }) => name === wanted));
  if (unknown.length > 0)
    throw new Fault(
      'invalid',
      `--flows ${unknown.join(',')}: give some of ${sizes.map(({ name }) => name).join(',')}`,
    );
  return names.length === 0 ? sizes : sizes.filter(({ name }) => names.includes(name));
}

type Size = { readonly name: string; readonly flows: number };

async function measureRates(context: BenchContext, track: Track, sizes: readonly Size[]): Promise<Figure[]> {
  const flows = 1_000;
  const wants = (...figures: readonly string[]): boolean =>
    figures.some((figure) => context.wants(`steer.${figure}`));
  const byHand = wants('kernel-way') && sizes.some(({ name }) => name === LIMIT_SIZE);
  const side = (
    wanted: boolean,
    name: string,
    measure: () => Promise<Trip>,
  ): Record<string, () => Promise<Trip>> => (wanted ? { [name]: measure } : {});
  const samples = await measureRounds(context, 'steer', {
    none: () => track.trip({ lane: 'none', flows }),
    ...side(wants('limit'), 'reflector', () => track.trip({ lane: 'reflector', flows })),
    ...Object.fromEntries(
      sizes.flatMap((size) => [
        [`steer ${size.name}`, () => track.trip({ lane: 'steer', flows: size.flows })],
        [`kernel ${size.name}`, () => track.trip({ lane: 'kernel', flows: size.flows })],
      ]),
    ),
    ...side(wants('limit'), 'forwarder', () => track.trip({ lane: 'forwarder', flows })),
    ...side(byHand, 'way', () => track.trip({ lane: 'way', flows })),
    ...side(wants('firewall'), 'way firewall', () =>
      track.trip({ lane: 'way', flows: FIREWALL_FLOWS, base: FIREWALL.base }),
    ),
    ...side(wants('firewall'), 'steer firewall', () =>
      track.trip({ lane: 'steer', flows: FIREWALL_FLOWS, base: FIREWALL.base }),
    ),
  });
  const pps = (side: string): number[] => samples.of(side).map((trip) => trip.pps);
  return [
    ...sizes.map(({ name }) =>
      ratioFigure({
        name: `steer.pps[${name}]`,
        unit: '/s',
        values: pps(`steer ${name}`),
        baselines: pps(`kernel ${name}`),
        ...(name === MOONSHOT.name ? {} : { goal: { of: 'ratio', above: 1 } as const }),
        detail: { ...describeTrip(samples, `steer ${name}`), ...costs(samples, `steer ${name}`) },
      }),
    ),
    ...(wants('limit') ? sizes.map(({ name }) => limitFigure(samples, name)) : []),
    ...(byHand ? [kernelWayFigure(samples)] : []),
    ...(wants('firewall') ? [firewallFigure(samples)] : []),
    valueFigure({
      name: 'steer.generator',
      unit: '/s',
      values: pps('none'),
      detail: describeTrip(samples, 'none'),
    }),
  ];
}

function kernelWayFigure(samples: Samples<Trip>): Figure {
  return ratioFigure({
    name: 'steer.kernel-way',
    unit: '/s',
    values: samples.of(`steer ${LIMIT_SIZE}`).map((trip) => trip.pps),
    baselines: samples.of('way').map((trip) => trip.pps),
    goal: { of: 'ratio', atLeast: 4 },
    detail: describeTrip(samples, 'way'),
  });
}

function firewallFigure(samples: Samples<Trip>): Figure {
  return ratioFigure({
    name: 'steer.firewall',
    unit: '/s',
    values: samples.of('steer firewall').map((trip) => trip.pps),
    baselines: samples.of('way firewall').map((trip) => trip.pps),
    detail: describeTrip(samples, 'steer firewall'),
  });
}

/** Nanoseconds per packet of each round. */
function times(samples: Samples<Trip>, side: string): number[] {
  return samples.of(side).map(({ pps }) => 1e9 / pps);
}

function minus(from: readonly number[], what: readonly number[]): number[] {
  return from.map((value, round) => value - (what[round] ?? Number.NaN));
}

/** Crossings per second: a trip without generator, sink and node is two of them. */
function limitFigure(samples: Samples<Trip>, size: string): Figure {
  const crossing = minus(times(samples, `steer ${size}`), times(samples, 'reflector')).map((ns) => ns / 2);
  const bare = minus(times(samples, 'forwarder'), times(samples, 'none'));
  return ratioFigure({
    name: `steer.limit[${size}]`,
    unit: '/s',
    values: crossing.map((ns) => 1e9 / ns),
    baselines: bare.map((ns) => 1e9 / ns),
    ...(size === LIMIT_SIZE ? { goal: { of: 'ratio', atLeast: 0.7 } as const } : {}),
    detail: {
      nsPerCrossing: round(summarise(crossing).median),
      nsOfForwarder: round(summarise(bare).median),
    },
  });
}

function costs(samples: Samples<Trip>, side: string): Record<string, number> {
  const net = minus(times(samples, side), times(samples, 'none'));
  return { nsPerTripNetOfGenerator: round(summarise(net).median) };
}

/** What was measured beside the rate, as medians. */
function describeTrip(samples: Samples<Trip>, side: string): Record<string, number> {
  const trips = samples.of(side);
  const median = (pick: (trip: Trip) => number): number => round(summarise(trips.map(pick)).median, 4);
  return {
    loss: median((trip) => trip.loss),
    cpuGenerator: median((trip) => trip.generatorCpu),
    cpuKsoftirqd: median((trip) => trip.ksoftirqdCpu),
    cpuOthers: median((trip) => trip.othersCpu),
  };
}

function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}
