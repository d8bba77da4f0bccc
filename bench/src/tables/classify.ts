// SPDX-License-Identifier: Apache-2.0
/**
 * classify.rules: what one look-up costs with 10 to 100,000 rules, beside the same rules as an nftables chain and as an nftables set.
 *
 * Ours is the datapath's look-up, in the kernel: nanoseconds that it adds to a packet, by a program that does nothing else. nftables: nanoseconds that
 * its table adds to a packet on the lane of plain forwarding. Every packet matches a rule, all rules are hit alike. classify.user is the same
 * look-up in TypeScript, as the classifier and tunnel-gw run it.
 */
import { RuleImage } from '@detour/tables';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { ratioFigure, valueFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { summarise } from '../statistics.js';
import { openTrack, type Track } from '../steer/track.js';
import { openKernelRules } from './kernel-rules.js';
import { makeRules, makeTuples, nftChain, nftSet, PORT, trafficOf } from './rule-set.js';

const SIZES = [10, 100, 1_000, 10_000, 100_000] as const;
/** Loading a longer chain into the kernel takes longer than the whole benchmark. */
const LONGEST_CHAIN = 10_000;
const TUPLES = 50_000;
const MS = 200;
const FLAT = 2;
const CHAIN_WARM_PACKETS = 2_000;

export const classify: Benchmark = {
  name: 'classify',
  what: 'one rule look-up with 10 to 100k rules, beside nftables chains and sets',
  run: async (context) => {
    await using track = await openTrack({ name: 'bench-classify', flowCapacity: 1024 });
    const figures: Figure[] = [];
    const flat: number[][] = [];
    for (const size of SIZES) {
      const { figure, user, ours } = await measureSize(context, track, size);
      figures.push(figure, user);
      flat.push(ours);
    }
    const at = (size: (typeof SIZES)[number]): number[] => flat[SIZES.indexOf(size)] ?? [];
    figures.push(
      ratioFigure({
        name: 'classify.flat',
        unit: 'ns',
        values: at(10_000),
        baselines: at(10),
        goal: { of: 'ratio', atMost: FLAT },
        detail: { value: '10,000 rules', baseline: '10 rules' },
      }),
    );
    return figures;
  },
};

async function measureSize(
  context: BenchContext,
  track: Track,
  size: number,
): Promise<{ figure: Figure; user: Figure; ours: number[] }> {
  const image = new RuleImage({ copies: 1 });
  image.apply({ upserts: makeRules(size), removes: [] });
  const rules = image.rules();
  const tuples = makeTuples(size, TUPLES);
  const lookUpAll = (): number => {
    const from = performance.now();
    let found = 0;
    for (const tuple of tuples) if (rules.lookup(tuple, PORT) !== null) found++;
    const ns = ((performance.now() - from) * 1e6) / tuples.length;
    if (found !== tuples.length) throw new RangeError(`${tuples.length - found} packets matched no rule`);
    return ns;
  };
  lookUpAll();
  using kernel = openKernelRules(image, tuples, PORT);
  const packet = async (): Promise<number> => {
    const trip = await track.trip({
      lane: 'kernel',
      ...trafficOf(size),
      ms: MS,
      warmPackets: CHAIN_WARM_PACKETS,
    });
    return 1e9 / trip.pps;
  };
  const withTable = async (text: string): Promise<number> => {
    await track.lab.exec('kernel', ['nft', '-f', '-'], { input: text });
    const ns = await packet();
    await track.lab.exec('kernel', ['nft', 'delete', 'table', 'ip', 'bench']);
    return ns;
  };
  const chainSize = Math.min(size, LONGEST_CHAIN);
  const samples = await measureRounds(context, `classify.rules, ${size} rules`, {
    ours: () => Promise.resolve(kernel.measure()),
    user: () => Promise.resolve(lookUpAll()),
    plain: packet,
    set: () => withTable(nftSet(size)),
    ...(chainSize === size ? { chain: () => withTable(nftChain(size)) } : {}),
  });
  const net = (side: string): number[] =>
    samples.of(side).map((ns, round) => ns - (samples.of('plain')[round] ?? Number.NaN));
  const chain = chainSize === size ? net('chain') : undefined;
  const ours = [...samples.of('ours')];
  const set = summarise(net('set')).median;
  return {
    ours,
    user: valueFigure({
      name: `classify.user[${size}]`,
      unit: 'ns',
      values: [...samples.of('user')],
    }),
    figure: ratioFigure({
      name: `classify.rules[${size}]`,
      unit: 'ns',
      values: ours,
      baselines: chain ?? net('set'),
      detail: { baseline: chain ? 'nftables chain' : 'nftables set', nftSetNs: Math.round(set) },
    }),
  };
}
