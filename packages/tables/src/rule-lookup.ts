// SPDX-License-Identifier: Apache-2.0
// Rule look-up as its users see it: one interface, and the order in which a packet and its reply are tried.
import { reverseTuple, type Tuple } from '@detour/core';
import type { RuleMatch } from './rule-match.js';

/** A rule table that can be asked. The reference and the compiled table answer alike. */
export interface RuleLookup {
  /** Number of rules. */
  readonly size: number;
  /** The first rule by precedence that matches a packet that entered by port number `port`; null when none does. */
  lookup(tuple: Tuple, port: number): RuleMatch | null;
  /** The same without looking at appliedTo. */
  lookupAnyPort(tuple: Tuple): RuleMatch | null;
}

export interface EitherWayMatch {
  readonly match: RuleMatch;
  /** True when the rule matched the reversed tuple: the packet is a reply, and the flow's forward direction is the reverse of it. */
  readonly reversed: boolean;
}

/**
 * Look-up of a packet without a flow record, whichever side spoke first.
 *
 * The packet's own orientation comes first. A TCP SYN opens a flow, so nothing else is tried for it. Any other packet may be a
 * reply whose flow is not known here; it is tried reversed. appliedTo is about the port by which the *forward* side
 * enters, and a reply may arrive by any port of the VRF (ARCHITECTURE.md section 3), so the reversed look-up does not
 * look at appliedTo.
 */
export function lookupEitherWay(
  rules: RuleLookup,
  tuple: Tuple,
  port: number,
  { syn }: { readonly syn: boolean },
): EitherWayMatch | null {
  const forward = rules.lookup(tuple, port);
  if (forward !== null) return { match: forward, reversed: false };
  if (syn) return null;
  const reply = rules.lookupAnyPort(reverseTuple(tuple));
  return reply === null ? null : { match: reply, reversed: true };
}
