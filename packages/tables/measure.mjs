// SPDX-License-Identifier: Apache-2.0
// Prints the figures of README.md: build times, shares and disruption of selection tables; compile and look-up times of rules.
// Run after a build: node packages/tables/measure.mjs
import { RuleRow } from '@detour/contracts';
import { buildSelection, RuleImage } from '@detour/tables';

/** CPU time of this process: what else the machine does counts little. */
const clock = (fn) => {
  const start = process.cpuUsage();
  const value = fn();
  const { user, system } = process.cpuUsage(start);
  return [(user + system) / 1000, value];
};
/** The least of several runs: what else runs on the machine only ever adds. */
const best = (runs, fn) => Math.min(...Array.from({ length: runs }, () => clock(fn)[0]));
const percent = (x) => `${(100 * x).toFixed(2)} %`;
const equal = (paths) => Array.from({ length: paths }, (_, i) => ({ path: i + 1, weight: 100 }));
const changed = (x, y) => x.filter((path, slot) => path !== y[slot]).length / x.length;
const withWeight = (members, path, weight) =>
  members.map((one) => (one.path === path ? { ...one, weight } : one));

const [cold] = clock(() => buildSelection(equal(2), 1));
console.log(`first selection of a fresh process, 2 paths: ${cold.toFixed(2)} ms`);
for (let i = 0; i < 200; i++) buildSelection(equal(2), 1);

console.log('paths slots build over-ideal | one-leaves ideal others-moved | one-halved ideal');
for (const paths of [2, 3, 10, 50, 100, 655, 1000]) {
  const members = equal(paths);
  const before = buildSelection(members, 7);
  const ms = best(5, () => buildSelection(members, 7));
  const counts = new Array(paths + 1).fill(0);
  for (const path of before) counts[path]++;
  const tries = [1, Math.ceil(paths / 3), Math.ceil((2 * paths) / 3), paths];
  let leaves = 0;
  let halved = 0;
  for (const path of tries) {
    leaves += changed(before, buildSelection(withWeight(members, path, 0), 7)) / tries.length;
    halved += changed(before, buildSelection(withWeight(members, path, 50), 7)) / tries.length;
  }
  const idealHalved = 1 / paths - 1 / (2 * paths - 1);
  const over = (Math.max(...counts) * paths) / before.length - 1;
  console.log(
    [
      paths,
      before.length,
      `${ms.toFixed(2)} ms`,
      percent(over),
      '|',
      percent(leaves),
      percent(1 / paths),
    ].join(' '),
    [percent(leaves - 1 / paths), '|', percent(halved), percent(idealHalved)].join(' '),
  );
}

let seed = 12345;
const random = (n) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * n);
};
const address = (value) => {
  const bytes = new Uint8Array(16).fill(0xff, 10, 12);
  new DataView(bytes.buffer).setUint32(12, value);
  return bytes;
};
/** Rules on random prefixes of mixed, nesting lengths, three in four with a port range, each for one of three ports of entry. */
function randomRules(count) {
  return Array.from({ length: count }, (_, i) => {
    const first = random(60000);
    return RuleRow.fromPartial({
      number: i + 1,
      priority: random(1e6),
      vrf: 1,
      sources: [
        { address: address((10 << 24) | random(1 << 24)), bits: 96 + [8, 16, 24, 24, 32][random(5)] },
      ],
      destinations: [{ address: address(random(2 ** 32)), bits: 96 + [8, 16, 24, 32][random(4)] }],
      protocols: random(3) ? [6] : [],
      destinationPorts: random(4) ? [{ first, last: first + random(100) }] : [],
      appliedTo: [1 + random(3)],
      action: 1,
    });
  });
}
console.log('rules compile look-up lines one-changed lines-changed');
for (const count of [10, 100, 1000, 10_000, 100_000]) {
  const rules = randomRules(count);
  const compiled = RuleImage.of(rules);
  const ms = best(3, () => RuleImage.of(rules));
  const tuples = Array.from({ length: 2048 }, () => {
    const rule = rules[random(count)];
    return {
      ...{ vrf: 1, proto: 6, sport: 40000 },
      src: random(2) ? rule.sources[0].address : address((10 << 24) | random(1 << 24)),
      dst: random(2) ? rule.destinations[0].address : address(random(2 ** 32)),
      dport: random(2) ? (rule.destinationPorts[0]?.first ?? 80) : random(65536),
    };
  });
  const lookAll = () => {
    for (const tuple of tuples) compiled.lookup(tuple, 1);
  };
  for (let i = 0; i < 10; i++) lookAll();
  const looked = best(40, lookAll);
  const image = new RuleImage({ copies: 1 });
  image.apply({ upserts: rules, removes: [] });
  image.changes(0);
  const change = () =>
    image.apply({ upserts: [{ ...rules[random(count)], priority: random(1e6) }], removes: [] });
  const one = best(20, change);
  image.changes(0);
  change();
  const touched = image.changes(0).lines.length;
  const ns = Math.round((looked / tuples.length) * 1e6);
  console.log(`${count} ${ms.toFixed(0)} ms ${ns} ns ${image.lines} ${one.toFixed(2)} ms ${touched}`);
}
