// SPDX-License-Identifier: Apache-2.0
// Rules of one shape, as many as wanted, in Detour's rows and in nftables' words: rule i is about sources 10.0.0.0 + 16 i / 28.
import { RuleAction, type RuleRow } from '@detour/contracts';
import { parsePrefix, type Tuple } from '@detour/core';
import { ipToKeyBytes } from '@detour/wire';
import { DESTINATION } from '../steer/generator-protocol.js';

export const VRF = 1;
export const PORT = 1;
const BASE = 0x0a00_0000;
const ADDRESSES_PER_RULE = 16;
const UDP = 17;

/** What the traffic generator sends: every address of every rule in turn. */
export function trafficOf(rules: number): { readonly base: number; readonly flows: number } {
  return { base: BASE, flows: rules * ADDRESSES_PER_RULE * 1024 };
}

function sourceOf(rule: number): string {
  const address = BASE + rule * ADDRESSES_PER_RULE;
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
}

export function makeRules(count: number): RuleRow[] {
  const destination = prefixRow('203.0.113.0/24');
  return Array.from({ length: count }, (_, i) => ({
    number: i + 1,
    name: `rule-${i + 1}`,
    priority: 1_000_000 - i,
    vrf: VRF,
    sources: [prefixRow(`${sourceOf(i)}/28`)],
    destinations: [destination],
    protocols: [UDP],
    sourcePorts: [],
    destinationPorts: [{ first: DESTINATION.port, last: DESTINATION.port }],
    appliedTo: [],
    action: RuleAction.CHAIN,
    chain: 1,
    level: '',
    dropUnresolved: false,
  }));
}

function prefixRow(text: string): RuleRow['sources'][number] {
  const prefix = parsePrefix(text);
  if (prefix === null) throw new RangeError(`${text} is no prefix`);
  return { address: prefix.address, bits: prefix.bits };
}

/** Packets that each match a rule, scattered over all of them. */
export function makeTuples(rules: number, count: number): Tuple[] {
  const dst = ipToKeyBytes(DESTINATION.address);
  return Array.from({ length: count }, (_, i) => {
    const rule = Math.floor((((i * 2654435769) >>> 0) / 2 ** 32) * rules);
    const src = ipToKeyBytes(sourceOf(rule));
    return { vrf: VRF, src, dst, sport: 1024 + (i & 0xff), dport: DESTINATION.port, proto: UDP };
  });
}

/** The same rules as a chain, one after the other. */
export function nftChain(rules: number): string {
  const lines = Array.from(
    { length: rules },
    (_, i) =>
      `ip saddr ${sourceOf(i)}/28 ip daddr 203.0.113.0/24 udp dport ${DESTINATION.port} meta mark set 1 return`,
  );
  return nftTable('', lines);
}

/** And as one rule with a set of their sources, which they can be because all else is the same. */
export function nftSet(rules: number): string {
  const sources = Array.from({ length: rules }, (_, i) => `${sourceOf(i)}/28`);
  const set = `set sources { type ipv4_addr; flags interval; elements = { ${sources.join(', ')} } }`;
  return nftTable(set, [
    `ip saddr @sources ip daddr 203.0.113.0/24 udp dport ${DESTINATION.port} meta mark set 1 return`,
  ]);
}

function nftTable(declarations: string, lines: readonly string[]): string {
  return `table ip bench {
${declarations}
chain rules {
type filter hook prerouting priority mangle; policy accept;
${lines.join('\n')}
}
}
`;
}
