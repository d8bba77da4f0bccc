// SPDX-License-Identifier: Apache-2.0
/** Checks of rules: names lead somewhere, ports can match, and no two rules of one priority match the same packet. */
import { parsePrefix } from './address.js';
import { checkReference } from './check-names.js';
import type { Draft, Placed, Report } from './draft.js';
import { PROTOCOL_NUMBERS } from './match-scalar.js';
import { remedyFor } from './nearest.js';
import { findOverlaps } from './overlap.js';
import type { Rule } from './schema.js';
import { type ResolvedSide, resolveSide, vrfsOfNode } from './topology.js';

const PROTOCOLS_WITH_PORTS: readonly number[] = [
  PROTOCOL_NUMBERS.tcp,
  PROTOCOL_NUMBERS.udp,
  PROTOCOL_NUMBERS.sctp,
];

/** What a rule may be applied to: a port of a gateway, or a guest of a host. */
interface Place {
  readonly vrf: string | undefined;
  readonly classify: boolean;
}

function placesOf(draft: Draft): Map<string, Place> {
  const places = new Map<string, Place>();
  for (const { row } of draft.rows.gateways)
    for (const port of row.ports)
      places.set(`${row.name}/${port.name}`, {
        vrf: port.vrf,
        classify: 'classify' in port && port.classify,
      });
  for (const { row } of draft.rows.hosts)
    for (const guest of row.guests)
      places.set(`${row.name}/${guest.name}`, { vrf: guest.vrf, classify: guest.classify });
  return places;
}

function checkAppliedTo(
  draft: Draft,
  placed: Placed<Rule>,
  report: Report,
  places: ReadonlyMap<string, Place>,
): void {
  const { vrf } = placed.row.match;
  for (const [index, ref] of placed.row.appliedTo.entries()) {
    const key = `${ref.gateway}/${ref.port}`;
    const place = places.get(key);
    const path = ['appliedTo', index];
    const known = draft.declared.gateways.has(ref.gateway) || draft.declared.hosts.has(ref.gateway);
    const isRow = [...draft.rows.gateways, ...draft.rows.hosts].some(({ row }) => row.name === ref.gateway);
    if (place === undefined && known && !isRow)
      report.row('rules', placed, path, {
        code: 'refused_reference',
        message: `names a port of "${ref.gateway}", which was refused`,
        remedy: `correct "${ref.gateway}"`,
      });
    else if (place === undefined)
      report.row('rules', placed, path, {
        code: 'unknown_reference',
        message: `names the port "${key}", which does not exist`,
        remedy: remedyFor('port', key, [...places.keys()]),
      });
    else if (place.vrf !== vrf)
      report.row('rules', placed, path, {
        code: 'port_vrf_mismatch',
        message: `is a port of VRF ${place.vrf ?? '(none)'}, and the rule matches VRF ${vrf}`,
        remedy: `apply it to a port of VRF ${vrf}, or match the port's VRF`,
      });
    else if (!place.classify)
      report.row('rules', placed, path, {
        code: 'port_does_not_classify',
        message: 'is a port that does not classify: the rule would never be looked at there',
        remedy: 'give the port classify: true',
      });
  }
}

function checkMatch(draft: Draft, placed: Placed<Rule>, report: Report): void {
  const { match } = placed.row;
  checkReference(draft, report, {
    from: 'rules',
    placed,
    path: ['match', 'vrf'],
    to: 'vrfs',
    name: match.vrf,
  });
  for (const side of ['source', 'destination'] as const)
    for (const [index, ref] of match[side].entries())
      if (ref.kind === 'group')
        checkReference(draft, report, {
          from: 'rules',
          placed,
          path: ['match', side, index],
          to: 'groups',
          name: ref.group,
        });
  for (const side of ['sourcePorts', 'destinationPorts'] as const)
    if (match[side].length > 0 && (match.protocol === null || !PROTOCOLS_WITH_PORTS.includes(match.protocol)))
      report.row('rules', placed, ['match', side], {
        code: 'ports_need_protocol',
        message: 'needs a protocol that has ports',
        remedy: 'add protocol: tcp, udp or sctp, one rule for each',
      });
}

function familiesOf(side: ResolvedSide): ReadonlySet<4 | 6> {
  if (side.any || side.guests.length > 0) return new Set([4, 6]);
  return new Set(side.prefixes.flatMap((text) => parsePrefix(text)?.family ?? []));
}

function checkFamilies(
  placed: Placed<Rule>,
  report: Report,
  source: ResolvedSide,
  destination: ResolvedSide,
): void {
  const from = familiesOf(source);
  const to = familiesOf(destination);
  if (from.size === 0 || to.size === 0 || [...from].some((family) => to.has(family))) return;
  report.row('rules', placed, ['match'], {
    code: 'family_mismatch',
    message: `can match nothing: source is IPv${[...from].join()} and destination IPv${[...to].join()}`,
    remedy: 'give both sides a prefix of one family',
  });
}

function checkAction(draft: Draft, placed: Placed<Rule>, report: Report): void {
  const { action, match } = placed.row;
  if (action.kind !== 'chain') return;
  const path = ['action', 'chain'];
  if (!checkReference(draft, report, { from: 'rules', placed, path, to: 'chains', name: action.chain }))
    return;
  const chain = draft.rows.chains.find(({ row }) => row.name === action.chain)?.row;
  for (const hop of chain?.hops ?? []) {
    const nodes = draft.rows.nodes.filter(({ row }) => row.service === hop.service);
    if (hop.optional || nodes.length === 0 || nodes.some(({ row }) => vrfsOfNode(row).includes(match.vrf)))
      continue;
    report.row('rules', placed, path, {
      code: 'chain_not_in_vrf',
      message: `names the chain "${action.chain}", but no node of its service "${hop.service}" serves VRF ${match.vrf}`,
      remedy: `declare a node of ${hop.service} for VRF ${match.vrf}`,
    });
  }
}

/** A level must be one of a service that the flows pass: any other would ask nothing of any node. */
function checkLevel(draft: Draft, placed: Placed<Rule>, report: Report): void {
  const { level, action } = placed.row;
  if (level === undefined) return;
  const path = ['level'];
  if (action.kind !== 'chain') {
    report.row('rules', placed, path, {
      code: 'level_without_chain',
      message: `has no meaning with action: ${action.kind}`,
      remedy: 'remove it, or write action: { chain: NAME }',
    });
    return;
  }
  const chain = draft.rows.chains.find(({ row }) => row.name === action.chain)?.row;
  const services = chain?.hops.map(({ service }) => service) ?? [];
  const levels = draft.rows.services
    .filter(({ row }) => services.includes(row.name))
    .flatMap(({ row }) => Object.keys(draft.scoring.get(row.scoring)?.levels ?? {}));
  if (chain === undefined || levels.includes(level)) return;
  report.row('rules', placed, path, {
    code: 'unknown_reference',
    message: `names the level "${level}", which no service of chain "${action.chain}" is scored by`,
    remedy: remedyFor('level (scoring: levels:)', level, levels),
  });
}

/** All checks of rules. */
export function checkRules(draft: Draft, report: Report): void {
  const places = placesOf(draft);
  const lookup = {
    groups: draft.rows.groups.map(({ row }) => row),
    hosts: draft.rows.hosts.map(({ row }) => row),
  };
  const candidates = draft.rows.rules.map((placed) => {
    const source = resolveSide(lookup, placed.row.match.source);
    const destination = resolveSide(lookup, placed.row.match.destination);
    checkMatch(draft, placed, report);
    checkAppliedTo(draft, placed, report, places);
    checkFamilies(placed, report, source, destination);
    checkAction(draft, placed, report);
    checkLevel(draft, placed, report);
    return { placed, rule: placed.row, source, destination };
  });
  const classifying = new Set(
    [...places.values()].flatMap((place) => (place.classify && place.vrf !== undefined ? [place.vrf] : [])),
  );
  for (const { placed, rule } of candidates)
    if (rule.appliedTo.length === 0 && !classifying.has(rule.match.vrf))
      report.warn('rules', placed, ['match', 'vrf'], {
        code: 'port_does_not_classify',
        message: `has no port that classifies: rule "${rule.name}" will never match`,
        remedy: 'give a port of the VRF classify: true',
      });
  for (const { earlier, later } of findOverlaps(candidates))
    report.row('rules', later.placed, ['priority'], {
      code: 'ambiguous_priority',
      message: `is also the priority of rule "${earlier.rule.name}", and both can match the same packet`,
      remedy: 'give them different priorities',
    });
}
