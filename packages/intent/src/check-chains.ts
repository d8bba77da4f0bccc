// SPDX-License-Identifier: Apache-2.0
/** Checks of chains: services exist and have nodes, the number of paths, backups that end somewhere. */
import { checkReference } from './check-names.js';
import type { Draft, Placed, Report } from './draft.js';
import { MAX_CHAIN_PATHS, NUMBER_LIMITS } from './limits.js';
import type { Chain } from './schema.js';
import { isBlind, nodesOfHops, pathsOfChain } from './topology.js';

function checkHops(draft: Draft, placed: Placed<Chain>, report: Report): void {
  const seen = new Set<string>();
  for (const [index, hop] of placed.row.hops.entries()) {
    const path = ['hops', index];
    const found = checkReference(draft, report, {
      from: 'chains',
      placed,
      path,
      to: 'services',
      name: hop.service,
    });
    const nodes = draft.rows.nodes.filter(({ row }) => row.service === hop.service);
    if (found && nodes.length === 0)
      report.row('chains', placed, path, {
        code: 'service_without_nodes',
        message: `names the service "${hop.service}", which has no node`,
        remedy: `declare a node with service: ${hop.service}`,
      });
    if (seen.has(hop.service) && nodes.some(({ row }) => isBlind(row.attach)))
      report.row('chains', placed, path, {
        code: 'blind_repeat',
        message: `names the service "${hop.service}" twice, and what its nodes return does not tell the two passes apart`,
        remedy: 'name it once, or attach its nodes with metadata (gwlb, plane with nsh or qinq)',
      });
    seen.add(hop.service);
  }
}

function pathCount(draft: Draft, chain: Chain): number {
  const nodes = draft.rows.nodes.map(({ row }) => row);
  return nodesOfHops(nodes, chain).reduce(
    (product, candidates, at) => product * (candidates.length + (chain.hops[at]?.optional === true ? 1 : 0)),
    1,
  );
}

/** Every path that the chain names is one that its hops make, in some VRF. */
function checkPaths(draft: Draft, placed: Placed<Chain>, report: Report): void {
  const { paths, ...chain } = placed.row;
  if (paths === undefined || pathCount(draft, chain) > MAX_CHAIN_PATHS) return;
  const nodes = draft.rows.nodes.map(({ row }) => row);
  const possible = new Set(pathsOfChain(nodes, chain).map((path) => path.nodes.join()));
  for (const [index, path] of paths.entries())
    if (!possible.has(path.join()))
      report.row('chains', placed, ['paths', index], {
        code: 'not_a_path',
        message: `"${path.join(', ')}" is no path: a node of each hop's service is needed, in the order of hops, all in one VRF`,
        remedy: `name nodes of ${chain.hops.map(({ service }) => service).join(', then ')}`,
      });
}

function checkBackup(draft: Draft, placed: Placed<Chain>, report: Report): void {
  const { onFailure, name } = placed.row;
  if (onFailure.kind !== 'backup') return;
  const path = ['onFailure', 'backup'];
  if (!checkReference(draft, report, { from: 'chains', placed, path, to: 'chains', name: onFailure.chain }))
    return;
  const way = [name];
  let next: string | undefined = onFailure.chain;
  while (next !== undefined && !way.includes(next)) {
    way.push(next);
    const failure: Chain['onFailure'] | undefined = draft.rows.chains.find(({ row }) => row.name === next)
      ?.row.onFailure;
    next = failure?.kind === 'backup' ? failure.chain : undefined;
  }
  if (next !== name) return;
  report.row('chains', placed, path, {
    code: 'backup_cycle',
    message: `leads back to this chain: ${[...way, name].join(' → ')}`,
    remedy: 'end the row of backups with drop or bypass',
  });
}

/** All checks of chains. */
export function checkChains(draft: Draft, report: Report): void {
  let total = 0;
  for (const placed of draft.rows.chains) {
    checkHops(draft, placed, report);
    checkPaths(draft, placed, report);
    checkBackup(draft, placed, report);
    if (placed.row.preempt !== undefined && placed.row.select !== 'priority')
      report.row('chains', placed, ['preempt'], {
        code: 'preempt_without_priority',
        message: `has no meaning with select: ${placed.row.select}`,
        remedy: 'remove it, or write select: priority',
      });
    const count = pathCount(draft, placed.row);
    total += count;
    if (count > MAX_CHAIN_PATHS)
      report.row('chains', placed, ['hops'], {
        code: 'too_many_paths',
        message: `makes ${count} paths, the product of the nodes of its services (and one more for each that is optional); a chain can have ${MAX_CHAIN_PATHS}`,
        remedy: 'split the services, or give each of several chains a part of the nodes',
      });
    else if (total > NUMBER_LIMITS.paths)
      report.row('chains', placed, ['hops'], {
        code: 'too_many_paths',
        message: `brings the paths of all chains to ${total}; the tables hold ${NUMBER_LIMITS.paths}`,
        remedy: 'use fewer nodes per service, or fewer chains',
      });
  }
}
