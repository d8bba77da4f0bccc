// SPDX-License-Identifier: Apache-2.0
/** One gateway's rule table, made from one revision of the intent: groups looked up, names turned into numbers. Pure. */
import { type PortRange, type PrefixRow, RuleAction, RuleRow } from '@detour/contracts';
import { type Prefix, parseAddress, parsePrefix } from '@detour/core';
import {
  chainKey,
  type Intent,
  levelledName,
  type ResolvedSide,
  type Revision,
  type Rule,
  resolveSide,
} from '@detour/intent';

/**
 * The rules that can match a packet of `gateway` (the name of a gateway or host).
 *
 * A rule is left out where it cannot match: it is applied to ports of other gateways only, or one of its sides names groups that hold
 * no address. Prefixes, protocols and ranges are sorted, so that equal intents give equal bytes.
 */
export function buildRuleRows(revision: Revision, gateway: string): RuleRow[] {
  const chains = new Set(revision.intent.chains.map((chain) => chain.name));
  return revision.intent.rules.flatMap((rule) => buildRow(rule, { revision, gateway, chains }) ?? []);
}

interface Surroundings {
  readonly revision: Revision;
  readonly gateway: string;
  readonly chains: ReadonlySet<string>;
}

function buildRow(rule: Rule, { revision, gateway, chains }: Surroundings): RuleRow | null {
  const { intent, numbers } = revision;
  const appliedTo = rule.appliedTo.flatMap((ref) =>
    ref.gateway === gateway ? (numbers.ports[`${ref.gateway}/${ref.port}`] ?? []) : [],
  );
  if (rule.appliedTo.length > 0 && appliedTo.length === 0) return null;
  const sources = prefixesOf(intent, resolveSide(intent, rule.match.source));
  const destinations = prefixesOf(intent, resolveSide(intent, rule.match.destination));
  if (sources === null || destinations === null) return null;
  return RuleRow.fromPartial({
    number: numbers.rules[rule.name] ?? 0,
    name: rule.name,
    priority: rule.priority,
    vrf: numbers.vrfs[rule.match.vrf] ?? 0,
    sources,
    destinations,
    protocols: rule.match.protocol === null ? [] : [rule.match.protocol],
    sourcePorts: rangesOf(rule.match.sourcePorts),
    destinationPorts: rangesOf(rule.match.destinationPorts),
    appliedTo: appliedTo.sort((x, y) => x - y),
    level: rule.level ?? '',
    dropUnresolved: intent.unresolvedPolicy === 'drop',
    ...actionOf(rule, revision, chains),
  });
}

function actionOf(rule: Rule, { numbers }: Revision, chains: ReadonlySet<string>) {
  switch (rule.action.kind) {
    case 'allow':
      return { action: RuleAction.ALLOW, chain: 0 };
    case 'drop':
      return { action: RuleAction.DROP, chain: 0 };
    case 'chain': {
      const chain = chains.has(rule.action.chain)
        ? numbers.chains[chainKey(levelledName(rule.action.chain, rule.level), rule.match.vrf)]
        : undefined;
      return chain === undefined
        ? { action: RuleAction.UNRESOLVED, chain: 0 }
        : { action: RuleAction.CHAIN, chain };
    }
  }
}

/** An empty list means any; null: the side names nobody whose address is known. */
function prefixesOf(intent: Intent, side: ResolvedSide): PrefixRow[] | null {
  if (side.any) return [];
  const prefixes = side.prefixes.flatMap((text) => parsePrefix(text) ?? []);
  const guests = new Set(side.guests);
  for (const host of intent.hosts)
    for (const guest of host.guests)
      if (guests.has(`${host.name}/${guest.name}`)) prefixes.push(...guest.addresses.flatMap(hostPrefix));
  return prefixes.length === 0 ? null : prefixes;
}

function hostPrefix(text: string): Prefix[] {
  const address = parseAddress(text);
  return address === null ? [] : [{ address, bits: 128 }];
}

function rangesOf(ranges: readonly (readonly [number, number])[]): PortRange[] {
  return ranges
    .map(([first, last]) => ({ first, last }))
    .sort((x, y) => x.first - y.first || x.last - y.last);
}
