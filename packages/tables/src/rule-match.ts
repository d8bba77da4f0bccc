// SPDX-License-Identifier: Apache-2.0
// What it means that one rule matches one packet: the definition that every look-up, in TypeScript and in the kernel, must agree with.
import { type PortRange, type PrefixRow, RuleAction, type RuleRow } from '@detour/contracts';
import { formatAddress, formatPrefix, isMappedV4, PROTO, prefixContains, type Tuple } from '@detour/core';

export type RuleVerdict = 'chain' | 'allow' | 'drop' | 'unresolved';

/** The rule that decides a packet. No match at all means: forwarded straight, by no rule. */
export interface RuleMatch {
  readonly rule: number;
  readonly action: RuleVerdict;
  /** Chain number; 0 unless action is 'chain' (or names the missing chain of 'unresolved'). */
  readonly chain: number;
  readonly row: RuleRow;
  /** A sentence: the rule's name, and which of its fields held for which value. Made when it is read. */
  readonly why: string;
}

/** Order of precedence: higher priority first, then the lower rule number. */
export function comparePrecedence(x: RuleRow, y: RuleRow): number {
  return y.priority - x.priority || x.number - y.number;
}

/** Only TCP and UDP have ports. A rule with port ranges never matches any other protocol (an ICMP identifier is no port). */
export function hasPorts(proto: number): boolean {
  return proto === PROTO.tcp || proto === PROTO.udp;
}

/**
 * Whether an address is in a prefix of a rule. An IPv6 prefix never matches IPv4, though ::/0 contains the mapped form as bytes:
 * who writes ::/0 means IPv6.
 */
export function prefixMatches(prefix: PrefixRow, address: Uint8Array): boolean {
  if (prefix.bits < 96 && isMappedV4(address)) return false;
  return prefixContains(prefix, address);
}

/** Whether a rule matches. `port` is the number of the port of entry; null: whichever (the reply's side, see lookupEitherWay). */
export function ruleMatches(rule: RuleRow, tuple: Tuple, port: number | null): boolean {
  return (
    rule.vrf === tuple.vrf &&
    (port === null || rule.appliedTo.length === 0 || rule.appliedTo.includes(port)) &&
    (rule.protocols.length === 0 || rule.protocols.includes(tuple.proto)) &&
    anyPrefix(rule.sources, tuple.src) &&
    anyPrefix(rule.destinations, tuple.dst) &&
    anyRange(rule.sourcePorts, tuple.proto, tuple.sport) &&
    anyRange(rule.destinationPorts, tuple.proto, tuple.dport)
  );
}

function anyPrefix(prefixes: readonly PrefixRow[], address: Uint8Array): boolean {
  return prefixes.length === 0 || prefixes.some((prefix) => prefixMatches(prefix, address));
}

function anyRange(ranges: readonly PortRange[], proto: number, port: number): boolean {
  return ranges.length === 0 || (hasPorts(proto) && ranges.some((r) => r.first <= port && port <= r.last));
}

/** The match of a rule that is known to match. */
export function toMatch(row: RuleRow, tuple: Tuple, port: number | null): RuleMatch {
  return new Match(row, tuple, port);
}

/** A class for the sake of speed: one getter for all, and the sentence is made only for who reads it. */
class Match implements RuleMatch {
  readonly rule: number;
  readonly action: RuleVerdict;
  readonly chain: number;
  readonly row: RuleRow;
  readonly #tuple: Tuple;
  readonly #port: number | null;

  constructor(row: RuleRow, tuple: Tuple, port: number | null) {
    this.rule = row.number;
    this.action = verdictOf(row);
    this.chain = row.chain;
    this.row = row;
    this.#tuple = tuple;
    this.#port = port;
  }

  get why(): string {
    return explainMatch(this.row, this.#tuple, this.#port);
  }
}

function verdictOf(row: RuleRow): RuleVerdict {
  switch (row.action) {
    case RuleAction.ALLOW:
      return 'allow';
    case RuleAction.DROP:
      return 'drop';
    case RuleAction.CHAIN:
      return 'chain';
    // A row without an action is refused by validateRules; if it got here, its outcome is as unknown as a missing chain's.
    case RuleAction.UNRESOLVED:
    case RuleAction.UNSPECIFIED:
      return 'unresolved';
  }
}

function explainMatch(row: RuleRow, tuple: Tuple, port: number | null): string {
  const source = row.sources.find((prefix) => prefixMatches(prefix, tuple.src));
  const destination = row.destinations.find((prefix) => prefixMatches(prefix, tuple.dst));
  const sourcePort = row.sourcePorts.find((r) => r.first <= tuple.sport && tuple.sport <= r.last);
  const destinationPort = row.destinationPorts.find((r) => r.first <= tuple.dport && tuple.dport <= r.last);
  const parts: string[] = [];
  if (row.appliedTo.length > 0) parts.push(port === null ? 'reply, by any port' : `port ${port}`);
  if (row.protocols.length > 0) parts.push(`protocol ${tuple.proto}`);
  if (source) parts.push(`source ${formatAddress(tuple.src)} in ${formatPrefix(source)}`);
  if (destination) parts.push(`destination ${formatAddress(tuple.dst)} in ${formatPrefix(destination)}`);
  if (sourcePort) parts.push(`source port ${tuple.sport} in ${formatRange(sourcePort)}`);
  if (destinationPort) parts.push(`destination port ${tuple.dport} in ${formatRange(destinationPort)}`);
  const held = parts.length === 0 ? 'every packet of the VRF' : parts.join(', ');
  return `rule ${row.name || row.number} (priority ${row.priority}): ${held}`;
}

function formatRange(range: PortRange): string {
  return range.first === range.last ? `${range.first}` : `${range.first}-${range.last}`;
}
