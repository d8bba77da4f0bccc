// SPDX-License-Identifier: Apache-2.0
// The two streams by which tables come, from a classifier and a path-selector, into the gateway's book.
import { type ChainRow, ClassifierClient, PathSelectorClient, type RuleRow } from '@detour/contracts';
import { openStream, TableStream } from '@detour/rpc';
import { digestChains, ruleValidator, validateChains } from '@detour/tables';
import type { Gateway } from './gateway.js';
import type { Controllers } from './questions.js';

export function openRules(
  to: Controllers,
  gateway: Gateway,
  digest: (rules: readonly RuleRow[]) => Uint8Array,
): TableStream<RuleRow> {
  return new TableStream({
    ...to,
    name: 'rules',
    gateway: to.key,
    open: (address) => openStream(ClassifierClient, address, (client) => client.watchRules()),
    digest,
    validate: ruleValidator(), // before the digest, so that a NACK names the row
    apply: ({ rows, version }) => gateway.take(gateway.book.offerRules(rows, version)),
  });
}

export function openPaths(to: Controllers, gateway: Gateway): TableStream<ChainRow> {
  return new TableStream({
    ...to,
    name: 'paths',
    gateway: to.key,
    open: (address) => openStream(PathSelectorClient, address, (client) => client.watchPaths()),
    digest: digestChains,
    validate: validateChains,
    apply: ({ rows, version }) => gateway.take(gateway.book.offerPaths(rows, version)),
  });
}
