// SPDX-License-Identifier: Apache-2.0
/**
 * steer.hops     crossings/s of the gateway on paths of 1, 2, 4 and 8 nodes, beside those of one node: what a hop costs wherever it stands
 * steer.kind     packets/s through a node of each kind of attach, beside VXLAN; steer.kind.plain: beside plain kernel forwarding of the same packets
 * steer.crowded  packets/s with 1,000 pairs and 200 VTIs configured, in one VRF and in 100, beside the same without them
 * steer.vrfs     ns of one crossing with packets in 1 and 100 VRFs, on 1 to 1,000 pairs, beside one pair; generator taken off
 */
import type { BenchContext, Figure } from '../figure.js';
import { ratioFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { crowdTables, VRF_POINTS, vrfFlows, vrfVlans } from './crowd.js';
import { HOPS, hopsPath, KINDS, kindPath } from './stations.js';
import type { Track, Trip } from './track.js';

export const CURVE_FLOWS = 1_000;
const VRF_COUNTS = [1, 100] as const;

export async function measureCurves(context: BenchContext, track: Track): Promise<Figure[]> {
  return [
    ...(context.wants('steer.hops') ? await measureHops(context, track) : []),
    ...(context.wants('steer.kind') ? await measureKinds(context, track) : []),
    ...(context.wants('steer.vrfs') ? await measureVrfs(context, track) : []),
    ...(context.wants('steer.crowded') ? await measureCrowded(context, track) : []),
  ];
}

const steered = (track: Track, base: number): Promise<Trip> =>
  track.trip({ lane: 'steer', flows: CURVE_FLOWS, base });

/** A path of n nodes is n reflections and n + 1 crossings; generator and sink come off. */
async function measureHops(context: BenchContext, track: Track): Promise<Figure[]> {
  const samples = await measureRounds(context, 'steer.hops', {
    none: () => track.trip({ lane: 'none', flows: CURVE_FLOWS }),
    ...Object.fromEntries(HOPS.map((hops) => [`${hops}`, () => steered(track, hopsPath(hops).base)])),
  });
  const net = (hops: number): number[] =>
    samples
      .of(`${hops}`)
      .map(
        (trip, round) => (1e9 / trip.pps - 1e9 / (samples.of('none')[round]?.pps ?? Number.NaN)) / (hops + 1),
      );
  return HOPS.map((hops) =>
    ratioFigure({
      name: `steer.hops[${hops}]`,
      unit: 'ns',
      values: net(hops),
      baselines: net(1),
      ...(hops === 1 ? {} : { goal: { of: 'ratio', atMost: 1.1 } as const }),
      detail: { loss: Math.max(...samples.of(`${hops}`).map((trip) => trip.loss)) },
    }),
  );
}

async function measureKinds(context: BenchContext, track: Track): Promise<Figure[]> {
  const samples = await measureRounds(context, 'steer.kind', {
    plain: () => track.trip({ lane: 'kernel', flows: CURVE_FLOWS }),
    ...Object.fromEntries(KINDS.map((kind) => [kind, () => steered(track, kindPath(kind).base)])),
  });
  const pps = (side: string): number[] => samples.of(side).map((trip) => trip.pps);
  const figures = (name: string, beside: string): Figure[] =>
    KINDS.map((kind) =>
      ratioFigure({
        name: `${name}[${kind}]`,
        unit: '/s',
        values: pps(kind),
        baselines: pps(beside),
        detail: { loss: Math.max(...samples.of(kind).map((trip) => trip.loss)) },
      }),
    );
  return [...figures('steer.kind', 'vxlan'), ...figures('steer.kind.plain', 'plain')];
}

/** All rows of all points are there throughout, and those of `steer.crowded`; what differs is how many have packets. */
async function measureVrfs(context: BenchContext, track: Track): Promise<Figure[]> {
  const clear = crowdTables(track.edge, 100);
  try {
    const samples = await measureRounds(context, 'steer.vrfs', {
      none: () => track.trip({ lane: 'none', flows: CURVE_FLOWS }),
      ...Object.fromEntries(
        VRF_POINTS.map((point) => [
          point.name,
          () =>
            track.trip({
              lane: 'tagged',
              flows: CURVE_FLOWS,
              base: vrfFlows(point).base,
              vlans: vrfVlans(point),
            }),
        ]),
      ),
    });
    const net = (side: string): number[] =>
      samples
        .of(side)
        .map((trip, round) => (1e9 / trip.pps - 1e9 / (samples.of('none')[round]?.pps ?? Number.NaN)) / 2);
    const [first, ...others] = VRF_POINTS;
    return others.map(({ name }) =>
      ratioFigure({
        name: `steer.vrfs[${name}]`,
        unit: 'ns',
        values: net(name),
        baselines: net(first.name),
        goal: { of: 'ratio', atMost: 1.1 },
        detail: { loss: Math.max(...samples.of(name).map((trip) => trip.loss)) },
      }),
    );
  } finally {
    clear();
  }
}

async function measureCrowded(context: BenchContext, track: Track): Promise<Figure[]> {
  const { base } = hopsPath(1);
  const crowded = async (vrfs: number): Promise<Trip> => {
    const clear = crowdTables(track.edge, vrfs);
    try {
      return await steered(track, base);
    } finally {
      clear();
    }
  };
  const samples = await measureRounds(context, 'steer.crowded', {
    alone: () => steered(track, base),
    ...Object.fromEntries(VRF_COUNTS.map((vrfs) => [`${vrfs}`, () => crowded(vrfs)])),
  });
  const pps = (side: string): number[] => samples.of(side).map((trip) => trip.pps);
  return VRF_COUNTS.map((vrfs) =>
    ratioFigure({
      name: `steer.crowded[${vrfs} VRF]`,
      unit: '/s',
      values: pps(`${vrfs}`),
      baselines: pps('alone'),
      goal: { of: 'ratio', atLeast: 0.97 },
    }),
  );
}
