// SPDX-License-Identifier: Apache-2.0
/** `get rule-table|policies`: the tables as each gateway has them in force, rules by redirection id and what an id stands for. */
import { GatewayClient } from '@detour/contracts';
import { askAll, askOnce, instancesAt } from './ask.js';
import { type Column, viewRows } from './render.js';
import type { Query, Resource } from './resource.js';

const askTables = ({ cluster, filters }: Query) =>
  askAll(instancesAt(cluster, 'tunnel-gw', filters.gateway), GatewayClient, (client) =>
    askOnce(client.getTables.bind(client), {}),
  );

interface RuleTableRow {
  readonly gateway: string;
  readonly rule: string;
  readonly attributes: string;
  /** Number of the chain in the rule's VRF; 0 for rules that lead to none. */
  readonly redirectionId: number;
}

const RULE_TABLE_COLUMNS: readonly Column<RuleTableRow>[] = [
  ['GATEWAY', (row) => row.gateway],
  ['RULE', (row) => row.rule],
  ['ATTRIBUTES', (row) => row.attributes],
  ['REDIRECTION', (row) => row.redirectionId],
];

export const ruleTableResource: Resource = {
  summary: 'the rule table of each gateway: packet attributes and redirection ids',
  filters: ['gateway'],
  load: async (query) => {
    const { answers, missing } = await askTables(query);
    const rows = answers.flatMap(({ instance, answer }) =>
      answer.rules.map(
        ({ rule, attributes, redirectionId }): RuleTableRow => ({
          gateway: instance.gateway,
          rule,
          attributes,
          redirectionId,
        }),
      ),
    );
    return { view: viewRows(rows, RULE_TABLE_COLUMNS), missing };
  },
};

interface PolicyTableRow {
  readonly gateway: string;
  readonly redirectionId: number;
  readonly vrf: string;
  readonly path: string;
  readonly nextHop: string;
  readonly pair: string;
  readonly bfd: string;
}

const POLICY_COLUMNS: readonly Column<PolicyTableRow>[] = [
  ['GATEWAY', (row) => row.gateway],
  ['REDIRECTION', (row) => row.redirectionId],
  ['VRF', (row) => row.vrf],
  ['PATH', (row) => row.path],
  ['NEXT HOP', (row) => row.nextHop],
  ['ADDRESS PAIR', (row) => row.pair],
  ['BFD', (row) => row.bfd],
];

export const policiesResource: Resource = {
  summary:
    'the policy table of each gateway: VRF, next hops, address pair and BFD state of each redirection id',
  filters: ['gateway'],
  load: async (query) => {
    const { answers, missing } = await askTables(query);
    const rows = answers.flatMap(({ instance, answer }) =>
      answer.policies.map(
        ({ redirectionId, vrf, path, nextHop, pair, bfd }): PolicyTableRow => ({
          gateway: instance.gateway,
          redirectionId,
          vrf,
          path,
          nextHop,
          pair,
          bfd,
        }),
      ),
    );
    return { view: viewRows(rows, POLICY_COLUMNS), missing };
  },
};
