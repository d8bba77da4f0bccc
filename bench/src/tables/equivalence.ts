// SPDX-License-Identifier: Apache-2.0
/**
 * equivalence: of a million random packets at 10,000 and at 100,000 random rules, how many get another rule from the linear reference, from the image as
 * TypeScript reads it, and from the image as the kernel does. The tables and packets are those of the tests (packages/testkit): nested prefixes,
 * touching port ranges, equal priorities, wildcards in every field, several VRFs, both families, replies.
 *
 * No time is measured. The reference takes most of it: DETOUR_RULE_PAIRS asks for another number of packets.
 */
import { abi } from '@detour/contracts';
import { Fault } from '@detour/core';
import { ReferenceRules, RuleImage } from '@detour/tables';
import { makeRuleWorld } from '@detour/testkit';
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
    for (const size of SIZES) figures.push(await compareAll(context, size, pairs));
    return figures;
  },
};

async function compareAll(context: BenchContext, size: number, pairs: number): Promise<Figure> {
  const world = makeRuleWorld(size, 11 + size);
  const image = new RuleImage({ copies: 1 });
  image.apply({ upserts: world.rules, removes: [] });
  using probe = openRulesProbe(image);
  const lookUps = { image: image.rules(), reference: new ReferenceRules(world.rules), probe };
  const found = { matched: 0, disagreements: 0, first: '' };
  for (let done = 0; done < pairs; done += AT_ONCE) {
    context.signal.throwIfAborted();
    context.progress.step(
      `equivalence: ${size} rules, ${done} of ${pairs} packets, ${found.disagreements} disagreements`,
    );
    const asked = Array.from({ length: Math.min(AT_ONCE, pairs - done) }, () => world.question());
    const part = compare(lookUps, asked);
    found.matched += part.matched;
    found.disagreements += part.disagreements;
    found.first ||= part.first;
    await new Promise((resolve) => setImmediate(resolve)); // signals are heard
  }
  const { matched, disagreements, first } = found;
  if (first !== '') context.progress.say(`equivalence, ${size} rules: ${first}`);
  return valueFigure({
    name: `equivalence[${size / 1000}k]`,
    unit: `of ${pairs}`,
    values: [disagreements],
    goal: { of: 'value', atMost: 0 },
    detail: { pairs, matched, disagreements, ...(first === '' ? {} : { first }) },
  });
}

interface LookUps {
  readonly image: ReturnType<RuleImage['rules']>;
  readonly reference: ReferenceRules;
  readonly probe: RulesProbe;
}

function compare({ image, reference, probe }: LookUps, asked: readonly Question[]) {
  for (const [i, question] of asked.entries()) probe.put(i, question);
  probe.run(asked.length);
  const found = { matched: 0, disagreements: 0, first: '' };
  for (const [i, { tuple, port }] of asked.entries()) {
    const match = port === null ? reference.lookupAnyPort(tuple) : reference.lookup(tuple, port);
    const wanted = match?.rule ?? 0;
    const read = image.find(tuple, port);
    const { rule, why } = probe.answer(i);
    if (wanted !== 0) found.matched++;
    if (read === wanted && rule === wanted && why === abi.RulesWhy.RULES_KNOWN) continue;
    found.disagreements++;
    found.first ||= `reference: rule ${wanted}; TypeScript: ${read}; kernel: ${rule} (why ${why}); ${describe({ tuple, port })}`;
  }
  return found;
}

function describe({ tuple: { vrf, src, dst, sport, dport, proto }, port }: Question): string {
  const hex = (address: Uint8Array): string => Buffer.from(address).toString('hex');
  const entry = port === null ? 'reply, by any port' : `port ${port}`;
  return `VRF ${vrf}, ${hex(src)}:${sport} to ${hex(dst)}:${dport}, protocol ${proto}, ${entry}`;
}
