// SPDX-License-Identifier: Apache-2.0
// Which rule decides: the linear reference, the image read by TypeScript and the image read in the kernel say the same of every packet.
// DETOUR_RULE_PAIRS asks that many packets of each size instead of what fits a quick run.
import { abi, RuleRow } from '@detour/contracts';
import { parseAddress, parsePrefix, type Tuple } from '@detour/core';
import { ReferenceRules, RuleImage } from '@detour/tables';
import { makeRuleWorld, randomNumbers } from '@detour/testkit';
import { expect, it } from 'vitest';
import { type Answer, openRulesProbe, type Question } from './rules-probe.js';

/** On an emulated machine (tools/kernel) everything takes twenty times as long. */
const emulated = process.env.DETOUR_VRF_LOOKUP !== undefined;
const PAIRS = Number(process.env.DETOUR_RULE_PAIRS ?? (emulated ? 4_096 : 65_536));
const SIZES = emulated ? [1, 10, 100, 1_000] : [1, 10, 100, 1_000, 10_000, 100_000];
/** In the first few rules decide, in the second very many. */
const ORDERS = ['mixed', 'specific'] as const;
const AT_ONCE = 65_536;
/** Comparisons with single rules that the reference may make for each so many packets. */
const REFERENCE_WORK = 40 * AT_ONCE;

function ruleBy(reference: ReferenceRules | ReturnType<RuleImage['rules']>, { tuple, port }: Question) {
  return port === null ? reference.lookupAnyPort(tuple) : reference.lookup(tuple, port);
}

/** What the kernel says must be what the image says, and what the reference says of as many as it has time for. */
function expectAgreement(
  image: RuleImage,
  asked: readonly Question[],
  answers: readonly Answer[],
  rules: readonly RuleRow[],
) {
  const [read, reference] = [image.rules(), new ReferenceRules(rules)];
  const referenced = Math.ceil(REFERENCE_WORK / Math.max(1, rules.length));
  let matched = 0;
  for (const [i, question] of asked.entries()) {
    const rule = read.find(question.tuple, question.port);
    const answer = answers[i];
    if (rule !== 0) matched++;
    const same = answer?.why === abi.RulesWhy.RULES_KNOWN && answer.rule === rule;
    if (!same) expect({ question, answer }).toEqual({ question, rule });
    if (i >= referenced) continue;
    const want = ruleBy(reference, question);
    if (rule !== (want?.rule ?? 0)) expect({ question, rule }).toEqual({ question, rule: want?.rule ?? 0 });
    if (want === null || answer === undefined) continue;
    const { RULE_ALLOW, RULE_DROP, RULE_CHAIN, RULE_UNRESOLVED } = abi.RuleAction;
    const action = { allow: RULE_ALLOW, drop: RULE_DROP, chain: RULE_CHAIN, unresolved: RULE_UNRESOLVED }[
      want.action
    ];
    expect([answer.action, answer.chain, answer.flags]).toEqual([
      action,
      want.chain,
      want.row.dropUnresolved ? 1 : 0,
    ]);
  }
  expect(matched).toBeGreaterThan(asked.length / 4);
}

it.each(SIZES.flatMap((size) => ORDERS.map((order) => ({ size, order }))))(
  '$size rules, $order priorities: reference, image and kernel agree',
  ({ size, order }) => {
    const world = makeRuleWorld(size, 7 + size, order);
    const image = new RuleImage({ copies: 1 });
    image.apply({ upserts: world.rules, removes: [] });
    using probe = openRulesProbe(image.lines);
    probe.write(1, image.changes(0));
    probe.halves(1, 0);
    for (let left = PAIRS / ORDERS.length; left > 0; left -= AT_ONCE) {
      const asked = Array.from({ length: Math.min(left, AT_ONCE) }, () => world.question());
      expectAgreement(image, asked, probe.ask(asked), world.rules);
    }
    expect(probe.asked()).toBe(0);
  },
  600_000,
);

it('changes reach each half in turn, and only what changed is sent', () => {
  const size = 2_000;
  const world = makeRuleWorld(size, 5);
  const below = randomNumbers(9);
  const image = new RuleImage({ copies: 2 });
  const rows = new Map(world.rules.map((row) => [row.number, row]));
  image.apply({ upserts: world.rules, removes: [] });
  using probe = openRulesProbe(4 * image.lines);
  probe.write(1, image.changes(0));
  probe.write(2, image.changes(1));
  for (let round = 0; round < 30; round++) {
    const numbers = Array.from({ length: 1 + below(4) }, () => 1 + below(size + 50));
    const removes = numbers.filter((number, i) => i % 2 === 1 && !numbers.slice(0, i).includes(number));
    const upserts = numbers.filter((number) => !removes.includes(number)).map((number) => world.rule(number));
    const latest = new Map(upserts.map((row) => [row.number, row]));
    for (const number of removes) rows.delete(number);
    for (const [number, row] of latest) rows.set(number, row);
    image.apply({ upserts: [...latest.values()], removes });
    const half = round % 2 === 0 ? 1 : 2;
    const changes = image.changes(half - 1);
    expect(changes.lines.length).toBeLessThan(image.lines / 4);
    probe.write(half, changes);
    probe.halves(half, 0);
    const asked = Array.from({ length: 500 }, () => world.question());
    expectAgreement(image, asked, probe.ask(asked), [...rows.values()]);
  }
});

const tuple = (src: string, dst: string): Tuple => {
  const [from, to] = [parseAddress(src), parseAddress(dst)];
  if (from === null || to === null) throw new TypeError('no address');
  return { vrf: 1, src: from, dst: to, sport: 1, dport: 2, proto: 6 };
};
const prefix = (text: string) => {
  const parsed = parsePrefix(text);
  if (parsed === null) throw new TypeError('no prefix');
  return { ...parsed };
};

it('deeper nesting than it can hold, and a bank without rules: user space is asked, and that is counted', () => {
  const nested = (depth: number) =>
    Array.from({ length: depth }, (_, i) =>
      RuleRow.fromPartial({
        number: i + 1,
        vrf: 1,
        priority: i,
        sources: [prefix(`10.0.0.0/${8 + i}`)],
        action: 1,
      }),
    );
  const request = { tuple: tuple('10.0.0.0', '10.9.9.9'), port: 1 };
  const image = new RuleImage({ copies: 1 });
  using probe = openRulesProbe(4096);
  image.apply({ upserts: nested(15), removes: [] });
  probe.write(1, image.changes(0));
  probe.halves(1, 0);
  expect(probe.ask([request])).toMatchObject([{ rule: 15, why: abi.RulesWhy.RULES_KNOWN }]);
  image.apply({ upserts: nested(16), removes: [] });
  probe.write(1, image.changes(0));
  expect(probe.ask([request])).toMatchObject([{ why: abi.RulesWhy.RULES_TOO_MANY }]);
  expect(image.rules().lookup(request.tuple, 1)?.rule).toBe(16);
  expect(probe.ask([request], 1)).toMatchObject([{ why: abi.RulesWhy.RULES_NO_IMAGE }]);
  expect(probe.asked()).toBe(2);
});
