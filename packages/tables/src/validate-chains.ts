// SPDX-License-Identifier: Apache-2.0
// Is a path table fit to be published (PSEL-4)? No unknown or duplicate path, no chain that nothing could be chosen for unless on
// purpose, and of an expanded table: no hole, no stranger, each path with its share. A refusal names the row; the old table stays.
import { AffinityKind, abi, type ChainRow, OnFailure, type PathRow, SelectPolicy } from '@detour/contracts';
import { MAX_PATH_WEIGHT } from './path-weights.js';
import { type Member, memberFault, slotCount } from './selection.js';
import { slotQuotas } from './slot-quotas.js';
import type { Validation } from './validate-rules.js';

const LIMIT = abi.DetourLimit;
/** ARCHITECTURE.md section 2. */
const MAX_PATHS_PER_CHAIN = 1_024;

/** What a gateway knows of paths beforehand: the nodes of a path number by the intent revision; undefined for an unknown path. */
export type KnownPath = (path: number) => readonly number[] | undefined;

/** Checks a whole path table. Without `known`, any path number in bounds is taken. */
export function validateChains(rows: readonly ChainRow[], known?: KnownPath): Validation {
  const chains = new Set<number>();
  const owners = new Map<number, string>();
  for (const row of rows) {
    const name = `chain ${row.name || row.number}`;
    if (chains.has(row.number))
      return { ok: false, row: name, why: `chain number ${row.number} occurs twice` };
    chains.add(row.number);
    for (const { number } of row.paths) {
      const owner = owners.get(number);
      if (owner !== undefined && owner !== name)
        return { ok: false, row: name, why: `path ${number} belongs to ${owner} as well` };
      owners.set(number, name);
    }
    const one = validateChainRow(row, known);
    if (!one.ok) return one;
  }
  const lost = rows.find((row) => row.onFailure === OnFailure.BACKUP && !chains.has(row.backup));
  if (lost === undefined) return { ok: true };
  return {
    ok: false,
    row: `chain ${lost.name || lost.number}`,
    why: `backup chain ${lost.backup} is unknown`,
  };
}

/** Checks one chain. */
export function validateChainRow(row: ChainRow, known?: KnownPath): Validation {
  const why = chainFault(row) ?? memberFault(row.paths.map(toMember)) ?? pathsFault(row.paths, known);
  return why === null ? { ok: true } : { ok: false, row: `chain ${row.name || row.number}`, why };
}

/** Checks an expanded table against the members that it was made from: the last look before it is written to the kernel. */
export function validateSelection(slots: Uint16Array, members: readonly Member[]): Validation {
  const refuse = (why: string): Validation => ({ ok: false, row: 'selection', why });
  const fault = memberFault(members);
  if (fault !== null) return refuse(fault);
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  const length = total === 0 ? 0 : slotCount(members.length);
  if (slots.length !== length) return refuse(`${slots.length} slots instead of ${length}`);
  const counts = new Map(members.map(({ path }) => [path, 0]));
  for (const [slot, path] of slots.entries()) {
    if (path === 0) return refuse(`slot ${slot} is a hole`);
    const count = counts.get(path);
    if (count === undefined) return refuse(`slot ${slot} names path ${path}, which is no member`);
    counts.set(path, count + 1);
  }
  const sorted = [...members].sort((x, y) => x.path - y.path);
  const live = sorted.filter(({ weight }) => weight > 0);
  const quotas = slotQuotas(
    live.map(({ weight }) => weight),
    slots.length,
  );
  for (const { path, weight } of sorted) {
    const quota = weight === 0 ? 0 : (quotas[live.findIndex((one) => one.path === path)] ?? 0);
    const count = counts.get(path) ?? 0;
    if (count !== quota) return refuse(`path ${path} has ${count} slots instead of ${quota}`);
  }
  return { ok: true };
}

function toMember(path: PathRow): Member {
  return { path: path.number, weight: path.weight };
}

function chainFault(row: ChainRow): string | null {
  if (row.number < 1 || row.number >= LIMIT.DT_MAX_CHAINS)
    return `number ${row.number} is not 1..${LIMIT.DT_MAX_CHAINS - 1}`;
  if (row.select < SelectPolicy.WEIGHTED || row.select > SelectPolicy.LEAST_FLOWS)
    return `select policy ${row.select} is unknown`;
  if (row.affinity < AffinityKind.FIVE_TUPLE || row.affinity > AffinityKind.SOURCE)
    return `affinity ${row.affinity} is unknown`;
  if (row.onFailure < OnFailure.DROP || row.onFailure > OnFailure.BACKUP)
    return `onFailure ${row.onFailure} is unknown`;
  if (row.paths.length === 0) return 'it has no paths';
  if (row.paths.length > MAX_PATHS_PER_CHAIN)
    return `${row.paths.length} paths are more than ${MAX_PATHS_PER_CHAIN}`;
  return null;
}

function pathsFault(paths: readonly PathRow[], known: KnownPath | undefined): string | null {
  for (const { number, nodes, weight, fallbackWeight } of paths) {
    if (nodes.length < 1 || nodes.length > LIMIT.DT_MAX_PATH_HOPS)
      return `path ${number} has ${nodes.length} nodes instead of 1..${LIMIT.DT_MAX_PATH_HOPS}`;
    const node = nodes.find((one) => one < 1 || one >= LIMIT.DT_MAX_NODES);
    if (node !== undefined) return `node ${node} of path ${number} is not 1..${LIMIT.DT_MAX_NODES - 1}`;
    for (const value of [weight, fallbackWeight])
      if (value > MAX_PATH_WEIGHT) return `weight ${value} of path ${number} is more than ${MAX_PATH_WEIGHT}`;
    if (known === undefined) continue;
    const expected = known(number);
    if (expected === undefined) return `path ${number} is unknown`;
    if (expected.join() !== nodes.join())
      return `path ${number} goes through nodes ${nodes.join(', ')} instead of ${expected.join(', ')}`;
  }
  const empty = paths.every((path) => path.weight === 0 && path.fallbackWeight === 0);
  if (empty && !paths.every((path) => path.drained))
    return 'the total weight is 0, and not every path is drained';
  return null;
}
