// SPDX-License-Identifier: Apache-2.0
/**
 * equivalence: of a million random packets at 10,000 and at 100,000 random rules, how many get another rule from the linear reference, from the image as
 * TypeScript reads it, and from the image as the kernel does. The tables and packets are those of the tests (packages/testkit): nested prefixes,
 * touching port ranges, equal priorities, wildcards in every field, several VRFs, both families, replies. Half of the packets are asked of a table of mixed
 * priorities, half of one where the narrower rule decides, so that as many rules as may be do.
 *
 * No time is measured. The reference takes most of it: DETOUR_RULE_PAIRS asks for another number of packets.
 */
import { abi } from '@detour/contracts';
import { Fault } from '@detour/core';
import { ReferenceRules, RuleImage } from '@detour/tables';
import { makeRuleWorld, type RuleOrder } from '@detour/testkit';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { openRulesProbe, type Question, type RulesProbe } from './rules-probe.js';

const SIZES = [10_000, 100_000] as const;
const DEFAULT_PAIRS = 1_000_000;
const AT_ONCE = 4_096;

export const equivalence: Benchmark = {
  name: 'equivalence',
  what: 'reference, TypeScript and kernel asked for the rule of a million random packets at 10k and 100k rules',
  run: async (context) => {
    const pairs = Number(process.env.DETOUR_RULE_PAIRS ?? DEFAULT_PAIRS);
    if (!Number.isInteger(pairs) || pairs < 1)
      throw new Fault('invalid', `DETOUR_RULE_PAIRS=${process.env.DETOUR_RULE_PAIRS}: give a whole number`);
    const figures: Figure[] = [];
    for (const size of SIZES)
      if (context.wants(nameOf(size))) figures.push(await compareAll(context, size, pairs));
    return figures;
  },
};

const nameOf = (size: number): string => `equivalence[${size / 1000}k]`;

interface Found {
  matched: number;
  disagreements: number;
  /** The first of them, in words. */
  first: string;
  /** Rules that decided some packet. */
  readonly rules: Set<number>;
}

async function compareAll(context: BenchContext, size: number, pairs: number): Promise<Figure> {
  const all = { matched: 0, disagreements: 0, first: '', rules: 0 };
  for (const order of ['mixed', 'specific'] as const) {
    const found = await compareTable(context, {
      ...{ size, order, pairs: order === 'mixed' ? pairs >> 1 : pairs - (pairs >> 1) },
    });
    all.matched += found.matched;
    all.disagreements += found.disagreements;
    all.first ||= found.first;
    all.rules += found.rules.size;
  }
  const { matched, disagreements, first, rules } = all;
  context.progress.say(
    `equivalence, ${size} rules: ${pairs} packets, ${matched} matched ${rules} rules of two tables, ${disagreements} disagreements; ${first}`,
  );
  return valueFigure({
    name: nameOf(size),
    unit: `of ${pairs}`,
    values: [disagreements],
    goal: { of: 'value', atMost: 0 },
    detail: { pairs, matched, rulesThatDecided: rules, disagreements, ...(first === '' ? {} : { first }) },
  });
}

async function compareTable(
  context: BenchContext,
  { size, order, pairs }: { readonly size: number; readonly order: RuleOrder; readonly pairs: number },
): Promise<Found> {
  const world = makeRuleWorld(size, 11 + size, order);
  const image = new RuleImage({ copies: 1 });
  image.apply({ upserts: world.rules, removes: [] });
  using probe = openRulesProbe(image);
  const lookUps = { image: image.rules(), reference: new ReferenceRules(world.rules), probe };
  const found: Found = { matched: 0, disagreements: 0, first: '', rules: new Set() };
  for (let done = 0; done < pairs; done += AT_ONCE) {
    context.signal.throwIfAborted();
    context.progress.step(
      `equivalence: ${size} rules, ${order}: ${done} of ${pairs} packets, ${found.disagreements} disagreements`,
    );
    const asked = Array.from({ length: Math.min(AT_ONCE, pairs - done) }, () => world.question());
    compare(lookUps, asked, found);
    await new Promise((resolve) => setImmediate(resolve)); // signals are heard
  }
  return found;
}

interface LookUps {
  readonly image: ReturnType<RuleImage['rules']>;
  readonly reference: ReferenceRules;
  readonly probe: RulesProbe;
}

function compare({ image, reference, probe }: LookUps, asked: readonly Question[], found: Found): void {
  for (const [i, question] of asked.entries()) probe.put(i, question);
  probe.run(asked.length);
  for (const [i, { tuple, port }] of asked.entries()) {
    const match = port === null ? reference.lookupAnyPort(tuple) : reference.lookup(tuple, port);
    const wanted = match?.rule ?? 0;
    const read = image.find(tuple, port);
    const { rule, why } = probe.answer(i);
    if (wanted !== 0) found.matched++;
    found.rules.add(wanted);
    if (read === wanted && rule === wanted && why === abi.RulesWhy.RULES_KNOWN) continue;
    found.disagreements++;
    found.first ||= `reference: rule ${wanted}; TypeScript: ${read}; kernel: ${rule} (why ${why}); ${describe({ tuple, port })}`;
  }
}

function describe({ tuple: { vrf, src, dst, sport, dport, proto }, port }: Question): string {
  const hex = (address: Uint8Array): string => Buffer.from(address).toString('hex');
  const entry = port === null ? 'reply, by any port' : `port ${port}`;
  return `VRF ${vrf}, ${hex(src)}:${sport} to ${hex(dst)}:${dport}, protocol ${proto}, ${entry}`;
}
