// SPDX-License-Identifier: Apache-2.0
/** What is wrong with a document: where, what, and what would be right. */
import type { Section } from './schema.js';

/** The closed list of what can be wrong; programs switch on it, people read the message. */
export const PROBLEM_CODES = [
  'yaml_syntax', // not YAML, or YAML that this document may not use
  'wrong_shape', // a missing key, a wrong type, a value out of bounds
  'unknown_key',
  'duplicate_name',
  'unknown_reference', // a name that nothing declares
  'refused_reference', // partial mode: a name whose row was refused
  'duplicate_table', // two VRFs with one routing table
  'device_taken', // one device, or one VLAN on it, with two uses
  'duplicate_tunnel', // two tunnels that their outer headers cannot tell apart
  'tunnel_to_itself', // the remote end of a tunnel is its own gateway
  'family_mismatch', // IPv4 and IPv6 where one family is needed
  'service_port_classifies',
  'pair_vrf_mismatch', // VRFC-2: the members of an address pair are in different VRFs
  'outer_vlan_alone', // a service tag (QinQ) without a VLAN tag behind it
  'next_hop_subnet', // VRFD-7: a next hop or peer outside the subnet of the local address
  'vrf_needed', // several VRFs or gateways, and no word on which
  'blind_nat', // a node that rewrites 5-tuples and could not be told apart on return
  'blind_repeat', // the same blind service twice in one chain
  'no_liveness', // a health profile with nothing that this attach can be asked
  'gateway_bound', // a node that only one of several gateways can use
  'timing', // intervals that contradict each other
  'preempt_without_priority',
  'level_without_chain',
  'service_without_nodes',
  'too_many_paths',
  'not_a_path', // a path that a chain names and its hops do not make
  'backup_cycle',
  'chain_not_in_vrf', // no path of the chain is in the rule's VRF
  'port_vrf_mismatch', // a rule applied to a port of another VRF
  'port_does_not_classify',
  'ports_need_protocol',
  'ambiguous_priority', // equal priorities that can both match
  'too_many_rows',
  'too_many_problems',
] as const;
export type ProblemCode = (typeof PROBLEM_CODES)[number];

/** The row, or the VRF of a node's address pair, that a problem makes unusable. */
export interface RowRef {
  readonly section: Section | 'scoring';
  /** Name of the row; its index as text where it has none. */
  readonly name: string;
  /** Index of the row in its section; absent for scoring. */
  readonly index?: number;
  /** Only this VRF's pair of the node is refused. */
  readonly vrf?: string;
}

export interface Problem {
  readonly code: ProblemCode;
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1, in characters. */
  readonly column: number;
  /** Where in the document, as `rules[2].match.vrf`. */
  readonly path: string;
  /** The value at fault as JSON, shortened. */
  readonly value: string;
  readonly message: string;
  readonly remedy: string;
  /** The row that partial mode leaves out; absent when the document as a whole is at fault. */
  readonly row?: RowRef;
}

/** One line for people: `file:line:column: path: value message; remedy`. */
export function formatProblem(problem: Problem): string {
  const { file, line, column, path, value, message, remedy } = problem;
  const subject = [path, value].filter((part) => part !== '').join(': ');
  return `${file}:${line}:${column}: ${subject}${subject === '' ? '' : ' '}${message}; ${remedy}`;
}

/** A path of keys and indexes as text. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    const key = String(part);
    if (!/^[A-Za-z_][\w-]*$/.test(key)) return `${text}[${JSON.stringify(key)}]`;
    return text === '' ? key : `${text}.${key}`;
  }, '');
}

const VALUE_CHARS = 80;

/** A value as JSON of at most 80 characters; empty for what is absent. */
export function formatValue(value: unknown): string {
  const text = JSON.stringify(value) ?? '';
  return text.length <= VALUE_CHARS ? text : `${text.slice(0, VALUE_CHARS - 1)}…`;
}
