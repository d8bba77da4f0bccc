// SPDX-License-Identifier: Apache-2.0
/**
 * program.snat: nanoseconds that SNAT on a port adds to the crossing of the gateway that goes through that port, timed as program.* are.
 *
 *	out, used      leaves with another source
 *	out, not used  leaves by that port as it is: the reply of a flow that began outside
 *	in, used       comes to a SNAT address, and gets the inner end for its destination
 *	in, not used   comes by that port for somebody else
 *
 * The same packets are measured with and without, one after the other; a trip is two crossings, and the other one is as before. UDP without a checksum.
 */
import type { BenchContext, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { meanRun } from './bpf-stats.js';
import type { RecordedFlows } from './flow-records.js';
import { REFLECTOR } from './lanes.js';
import { putBindings, SNAT_IN, SNAT_OUT, SNAT_REPLIES, setSnat } from './snat-tables.js';
import type { Track } from './track.js';

const FLOWS = 1_000;
const MS = 300;

const SIDES: readonly { name: string; on: 'out' | 'in'; flows: RecordedFlows; without: RecordedFlows }[] = [
  { name: 'out, used', on: 'out', flows: SNAT_OUT, without: SNAT_OUT },
  { name: 'out, not used', on: 'out', flows: SNAT_REPLIES, without: SNAT_REPLIES },
  { name: 'in, used', on: 'in', flows: SNAT_IN, without: SNAT_REPLIES }, // without, nobody has these packets' flows
  { name: 'in, not used', on: 'in', flows: REFLECTOR, without: REFLECTOR },
];

export async function measureSnat(context: BenchContext, track: Track): Promise<Figure[]> {
  const edge = track.edge.program('detour_edge');
  const devices = await track.devices('steer');
  putBindings(track.edge, FLOWS);
  const losses: number[] = [];
  const time = (flows: RecordedFlows, on: 'none' | 'out' | 'in') => (): Promise<number> => {
    setSnat(track.edge, devices, on);
    return meanRun(edge, async () => {
      const { base } = flows;
      const { loss } = await track.trip({ lane: 'steer', flows: FLOWS, base, ms: MS, timed: true });
      losses.push(loss);
    });
  };
  try {
    const samples = await measureRounds(
      context,
      'program.snat',
      Object.fromEntries(
        SIDES.flatMap(({ name, on, flows, without }) => [
          [`${name}: without`, time(without, 'none')],
          [name, time(flows, on)],
        ]),
      ),
    );
    return SIDES.map(({ name }) => {
      const without = samples.of(`${name}: without`);
      return valueFigure({
        name: `program.snat[${name}]`,
        unit: 'ns',
        values: samples.of(name).map((ns, round) => 2 * (ns - (without[round] ?? Number.NaN))),
        detail: { loss: Math.max(...losses) },
      });
    });
  } finally {
    setSnat(track.edge, devices, 'none');
  }
}
