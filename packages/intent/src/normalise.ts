// SPDX-License-Identifier: Apache-2.0
/** Defaults that depend on the rest of the document: the only VRF, the only gateway. */
import type { Draft, Placed } from './draft.js';
import type { Attach, Intent, ServiceNode } from './schema.js';
import { freezeDeep } from './schema.js';
import { scoringSchema } from './schema-chain.js';

function fillAttach(node: ServiceNode, onlyVrf: string | undefined, gateways: readonly string[]): Attach {
  const { attach } = node;
  if (attach.kind === 'l2pair') return attach;
  const vrf = attach.vrf ?? onlyVrf;
  const base = vrf === undefined ? {} : { vrf };
  if (attach.kind === 'gwlb') return { ...attach, ...base, gateways: attach.gateways ?? gateways };
  if (attach.kind === 'plane' || attach.kind === 'tunnel') return { ...attach, ...base };
  const gateway = attach.gateway ?? (gateways.length === 1 ? gateways[0] : undefined);
  return { ...attach, ...base, ...(gateway === undefined ? {} : { gateway }) };
}

/** Fills in what can be known only with the whole document at hand. */
export function fillDefaults(draft: Draft): Draft {
  const vrfs = [...draft.declared.vrfs];
  const onlyVrf = vrfs.length === 1 ? vrfs[0] : undefined;
  const gateways = [...draft.declared.gateways].sort();
  const nodes = draft.rows.nodes.map(({ index, row }) => ({
    index,
    row: { ...row, attach: fillAttach(row, onlyVrf, gateways) },
  }));
  const scoring = new Map(draft.scoring);
  if (!scoring.has('default')) scoring.set('default', scoringSchema.parse({}));
  return { ...draft, rows: { ...draft.rows, nodes }, scoring };
}

function byName<T extends { readonly name: string }>(placed: readonly Placed<T>[]): T[] {
  return placed.map(({ row }) => row).sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** The draft as a frozen intent: rows by name, ports and guests by name, rules by descending priority, then name. */
export function finishDraft(draft: Draft): Intent {
  const { rows } = draft;
  const named = <T extends { readonly name: string }>(list: readonly T[]): T[] =>
    byName(list.map((row, index) => ({ row, index })));
  return freezeDeep<Intent>({
    apiVersion: 'detour/v1',
    vrfs: byName(rows.vrfs),
    groups: byName(rows.groups),
    gateways: byName(rows.gateways).map((gateway) => ({ ...gateway, ports: named(gateway.ports) })),
    hosts: byName(rows.hosts).map((host) => ({ ...host, guests: named(host.guests) })),
    healthProfiles: byName(rows.healthProfiles),
    services: byName(rows.services),
    nodes: byName(rows.nodes),
    chains: byName(rows.chains),
    scoring: Object.fromEntries([...draft.scoring].sort(([a], [b]) => (a < b ? -1 : 1))),
    rules: byName(rows.rules).sort((a, b) => b.priority - a.priority),
    unresolvedPolicy: draft.unresolvedPolicy,
  });
}
