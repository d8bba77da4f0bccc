// SPDX-License-Identifier: Apache-2.0
// Every alarm that a process may raise; what each means to an operator is in docs/operations.md.

export const ALARM_CODES = [
  'all_stale', // path-selector, tunnel-gw: no node of a chain has a fresh score
  'attach_failed', // tunnel-gw: a device of the revision in force came back, and does not take the program
  'attribute_refused', // stats-collector: a node said what cannot be
  'bfd_gone', // tunnel-gw: its bfd does not answer
  'chain_shortfall', // path-selector: a chain cannot be done as it is declared
  'cleanup_failed', // tunnel-gw: what only the revision before needed is still there
  'device_missing', // tunnel-gw: a device that the revision names is not there
  'flow_log_failed', // tunnel-gw: lines of the flow log cannot be written
  'flows_full', // tunnel-gw: the table of established flows is nearly full
  'gateway_withdrawn', // bfd: routers are told to leave this gateway
  'hop_skipped', // tunnel-gw: new flows of a chain pass it without an optional hop
  'intent_refused', // controllers: a revision that cannot be used
  'level_unmet', // tunnel-gw: flows of a QoS level go to nodes without it
  'node_down', // bfd
  'node_stale', // stats-collector: a source of attributes is silent
  'pins_conflict', // tunnel-gw: another gateway had decided flows of this one otherwise, and its pins won
  'pins_lag', // tunnel-gw: pins could not be written to Redis for a while
  'port_silent', // tunnel-gw: frames are handed to a port's device, which does not send them
  'publish_failed', // tunnel-gw: a change could not be written to the datapath, what was live stays
  'redis_refuses', // path-selector, tunnel-gw: Redis answers and takes no pins
  'redis_unreachable', // path-selector, tunnel-gw: Redis does not answer, or not in time
  'revision_refused', // tunnel-gw: this gateway cannot carry a revision out
  'rule_unresolved', // classifier: a rule names a chain that does not exist
  'score_invalid', // stats-collector: the formula has no result
  'snat_full', // tunnel-gw: no port of a SNAT address is free towards a remote end
  'tables_kept', // tunnel-gw: no controller has answered since its start
  'table_refused', // classifier, path-selector: a gateway said NACK
] as const;
export type AlarmCode = (typeof ALARM_CODES)[number];
