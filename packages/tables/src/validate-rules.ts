// SPDX-License-Identifier: Apache-2.0
// Is a rule table fit to be published? Bounds on everything that came over a wire; a refusal names the row.
import { abi, type PortRange, type PrefixRow, RuleAction, type RuleRow } from '@detour/contracts';
import { changedRows, inOrder } from '@detour/core';
import { conditionsOf } from './rule-conditions.js';
import { ruleElements } from './rule-elements.js';

/** Fit, or refused: which row, and why with the value that was found. */
export type Validation =
  | { readonly ok: true }
  | { readonly ok: false; readonly row: string; readonly why: string };

/** Rule numbers are indexes of a kernel table; 0 means none. */
const MAX_RULES = abi.DetourLimit.DT_MAX_RULES;
const MAX_PORT_NUMBER = abi.DetourLimit.DT_MAX_PORTS - 1;
const MAX_VRF = 65_535;
/** Entries of the look-up that one rule may take (rule-image.ts). */
const MAX_LEAVES = 32_768;
const MOST_PREFIXES = 30; // that a port range is cut into

/** Checks a whole rule table: numbers unique and in bounds, fields well-formed, actions complete. */
export function validateRules(rules: readonly RuleRow[]): Validation {
  return ruleValidator()(rules);
}

/** As validateRules, for tables of which most rows stay the same objects: each of these is looked at once. */
export function ruleValidator(): (rules: readonly RuleRow[]) => Validation {
  let valid: readonly RuleRow[] = [];
  return (given) => {
    const rules = inOrder(given);
    let before = 0;
    for (const rule of rules) {
      if (rule.number === before && before !== 0)
        return refused(rule, `rule number ${rule.number} occurs twice`);
      before = rule.number;
    }
    for (const rule of changedRows(valid, rules, () => false).upserts) {
      const why = faultOf(rule);
      if (why !== null) return refused(rule, why);
    }
    valid = rules;
    return { ok: true };
  };
}

function refused(rule: RuleRow, why: string): Validation {
  return { ok: false, row: `rule ${rule.name || rule.number}`, why };
}

function faultOf(rule: RuleRow): string | null {
  if (!within(rule.number, 1, MAX_RULES - 1)) return `number ${rule.number} is not 1..${MAX_RULES - 1}`;
  if (!within(rule.vrf, 1, MAX_VRF)) return `VRF ${rule.vrf} is not 1..${MAX_VRF}`;
  const protocol = rule.protocols.find((p) => !within(p, 0, 255));
  if (protocol !== undefined) return `protocol ${protocol} is not 0..255`;
  const port = rule.appliedTo.find((p) => !within(p, 0, MAX_PORT_NUMBER));
  if (port !== undefined) return `appliedTo port number ${port} is not 0..${MAX_PORT_NUMBER}`;
  return (
    prefixFault('source', rule.sources) ??
    prefixFault('destination', rule.destinations) ??
    rangeFault('source', rule.sourcePorts) ??
    rangeFault('destination', rule.destinationPorts) ??
    actionFault(rule) ??
    sizeFault(rule)
  );
}

function actionFault(rule: RuleRow): string | null {
  switch (rule.action) {
    case RuleAction.CHAIN:
      return rule.chain > 0 ? null : 'action chain names no chain';
    case RuleAction.ALLOW:
    case RuleAction.DROP:
      return rule.chain === 0 ? null : `chain ${rule.chain} beside an action that has none`;
    case RuleAction.UNRESOLVED:
      return null;
    case RuleAction.UNSPECIFIED:
      return 'no action';
    default:
      return `action ${String(rule.action)} is unknown`;
  }
}

function sizeFault(rule: RuleRow): string | null {
  const { sources, destinations, protocols, appliedTo, sourcePorts, destinationPorts } = rule;
  const lists = [sources.length, destinations.length, protocols.length, 1 + appliedTo.length];
  const ranges = MOST_PREFIXES * Math.max(sourcePorts.length, destinationPorts.length);
  const most = [...lists, ranges].reduce((product, one) => product * Math.max(1, one), 1);
  if (most <= MAX_LEAVES) return null;
  const leaves = leavesOf(rule);
  return leaves <= MAX_LEAVES
    ? null
    : `its addresses, protocols, ports of entry and port ranges multiply to ${leaves} leaves, ${leaves - MAX_LEAVES} over what one rule may have: split it, or give it fewer`;
}

function prefixFault(field: string, prefixes: readonly PrefixRow[]): string | null {
  for (const { address, bits } of prefixes) {
    if (address.length !== 16) return `${field} address has ${address.length} bytes instead of 16`;
    if (!within(bits, 0, 128)) return `${field} prefix length ${bits} is not 0..128`;
  }
  return null;
}

function rangeFault(field: string, ranges: readonly PortRange[]): string | null {
  const bad = ranges.find((r) => !within(r.first, 0, 65_535) || !within(r.last, r.first, 65_535));
  return bad === undefined ? null : `${field} ports ${bad.first}-${bad.last} are no range in 0..65535`;
}

function within(value: number, low: number, high: number): boolean {
  return Number.isInteger(value) && value >= low && value <= high;
}

/** How many leaves a rule takes in an image. */
export function leavesOf(rule: RuleRow): number {
  const [sources, destinations] = ruleElements(rule);
  return (
    Math.max(1, sources.elements.length) *
    Math.max(1, destinations.elements.length) *
    conditionsOf(rule).length
  );
}
