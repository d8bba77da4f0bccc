// SPDX-License-Identifier: Apache-2.0
/**
 * tries: one rule look-up of ours beside the same by the kernel's LPM tries (bpf/tries.bpf.c), IPv4 and IPv6, at 10, 1,000 and 100,000 source prefixes.
 *
 * `flat`: all prefixes of one length. `nested`: of eight lengths, one in the other; the longest decides, which is what tries can say and the best case for
 * them: other priorities would need the prefixes around the longest one as well. Both must give every packet the same rule. Ratio: ours / tries.
 */
import { RuleAction, type RuleRow } from '@detour/contracts';
import { Fault, type Tuple } from '@detour/core';
import { RuleImage } from '@detour/tables';
import { randomNumbers } from '@detour/testkit';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { ratioFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { openRulesProbe } from './rules-probe.js';
import { openTriesProbe } from './tries-probe.js';

const SIZES = [10, 1_000, 100_000] as const;
const FAMILIES = [
  { name: 'ipv4', v6: false, flat: [124], nested: [104, 108, 112, 116, 118, 120, 122, 124] },
  { name: 'ipv6', v6: true, flat: [64], nested: [32, 36, 40, 44, 48, 52, 56, 64] },
] as const;
type Family = (typeof FAMILIES)[number];
const TUPLES = 50_000;
const REPEAT = 4;
const PORT = 1;
const UDP = 17;
const DPORT = 9_000;
const LINE_BYTES = 64;

export const tries: Benchmark = {
  name: 'tries',
  what: "one rule look-up beside the kernel's LPM tries, IPv4 and IPv6, with 10 to 100k prefixes",
  run: async (context) => {
    const figures: Figure[] = [];
    for (const family of FAMILIES)
      for (const shape of ['flat', 'nested'] as const)
        for (const size of SIZES) figures.push(await measureSize(context, family, { shape, size }));
    return figures;
  },
};

async function measureSize(
  context: BenchContext,
  family: Family,
  { shape, size }: { readonly shape: 'flat' | 'nested'; readonly size: number },
): Promise<Figure> {
  const what = size < 1_000 ? `${size}` : `${size / 1_000}k`;
  const below = randomNumbers(size);
  const rules = makePrefixRules(family, family[shape], { size, below });
  const tuples = Array.from({ length: TUPLES }, () => packetFor(rules, family, below));
  const image = new RuleImage({ copies: 1 });
  image.apply({ upserts: rules, removes: [] });
  using ours = openRulesProbe(image);
  using theirs = await openTriesProbe(rules, tuples, family.v6);
  for (const [i, tuple] of tuples.entries()) ours.put(i, { tuple, port: PORT });
  ours.run(TUPLES);
  theirs.run(true, 1);
  for (let i = 0; i < TUPLES; i++)
    if (ours.answer(i).rule === 0 || ours.answer(i).rule !== theirs.rule(i))
      throw new Fault('internal', `packet ${i}: rule ${ours.answer(i).rule}, by tries ${theirs.rule(i)}`);
  const oursNs = (lookups: boolean): number => ours.run(TUPLES, { lookups, repeat: REPEAT });
  const samples = await measureRounds(context, `tries, ${family.name}, ${what} ${shape}`, {
    ours: () => Promise.resolve(oursNs(true) - oursNs(false)),
    tries: () => Promise.resolve(theirs.run(true, REPEAT) - theirs.run(false, REPEAT)),
  });
  return ratioFigure({
    name: `tries.${family.name}[${what} ${shape}]`,
    unit: 'ns',
    values: samples.of('ours'),
    baselines: samples.of('tries'),
    detail: {
      bytesPerRule: Math.round((image.lines * LINE_BYTES) / size),
      bytesOfTries: theirs.bytes,
    },
  });
}

type Below = (limit: number) => number;

/** The longer the prefix, the higher its priority; no prefix twice. Where a length has no more prefixes, the longest is taken. */
function makePrefixRules(
  { v6 }: Family,
  lengths: readonly number[],
  { size, below }: { readonly size: number; readonly below: Below },
): RuleRow[] {
  const seen = new Set<string>();
  const destination = v6
    ? { address: address(true, [0xdd]), bits: 8 }
    : { address: address(false, [203, 0, 113, 0]), bits: 120 };
  const longest = Math.max(...lengths);
  const unseen = (bits: number): Uint8Array => {
    for (let tries = 0; ; tries++) {
      const found = cut(randomAddress(v6, below), tries < 8 ? bits : longest);
      const text = `${Buffer.from(found).toString('hex')}/${tries < 8 ? bits : longest}`;
      if (seen.has(text)) continue;
      seen.add(text);
      return Uint8Array.from([...found, tries < 8 ? bits : longest]);
    }
  };
  return Array.from({ length: size }, (_, i) => {
    const made = unseen(lengths[below(lengths.length)] ?? longest);
    const bits = made[16] ?? longest;
    return {
      ...{ number: i + 1, name: `rule-${i + 1}`, priority: bits, vrf: 1, appliedTo: [], level: '', chain: 1 },
      sources: [{ address: made.slice(0, 16), bits }],
      destinations: [destination],
      protocols: [UDP],
      sourcePorts: [],
      destinationPorts: [{ first: DPORT, last: DPORT }],
      action: RuleAction.CHAIN,
      dropUnresolved: false,
    };
  });
}

/** IPv4: in 10.0.0.0/8; IPv6: in 2001:db8::/32, its last 64 bits 0. */
function randomAddress(v6: boolean, below: Below): Uint8Array {
  const byte = (): number => below(256);
  return v6
    ? address(true, [0x20, 0x01, 0x0d, 0xb8, byte(), byte(), byte(), byte()])
    : address(false, [10, byte(), byte(), byte()]);
}

function address(v6: boolean, bytes: readonly number[]): Uint8Array {
  const out = new Uint8Array(16);
  if (!v6) out.fill(0xff, 10, 12);
  out.set(bytes, v6 ? 0 : 12);
  return out;
}

function cut(bytes: Uint8Array, bits: number): Uint8Array {
  return bytes.map((byte, i) => {
    const kept = Math.max(0, Math.min(8, bits - 8 * i));
    return byte & (0xff00 >> kept) & 0xff;
  });
}

/** From anywhere in the prefix of some rule. */
function packetFor(rules: readonly RuleRow[], { v6 }: Family, below: Below): Tuple {
  const { address: base, bits } = rules[below(rules.length)]?.sources[0] ?? {
    address: new Uint8Array(16),
    bits: 128,
  };
  const end = v6 ? 8 : 16;
  const src = base.map((byte, i) => {
    const kept = Math.max(0, Math.min(8, bits - 8 * i));
    return i < end ? byte | (below(256) & (0xff >> kept)) : byte;
  });
  const dst = v6 ? address(true, [0xdd, 1]) : address(false, [203, 0, 113, 9]);
  return { vrf: 1, src, dst, sport: 1024 + below(256), dport: DPORT, proto: UDP };
}
