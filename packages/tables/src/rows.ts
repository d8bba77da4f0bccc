// SPDX-License-Identifier: Apache-2.0
// Tables as sets of numbered rows: what changed between two, one applied to the other, and a digest by which two replicas compare.
//
// A row's canonical bytes are its protobuf encoding after its any-of lists are sorted and masked, so that two documents that say the
// same in another order make the same table. The digest is SHA-256 over every row in the order of numbers, each behind its length.
import { createHash } from 'node:crypto';
import { ChainRow, type PortRange, type PrefixRow, RuleRow } from '@detour/contracts';
import { compareAddresses, maskPrefix } from '@detour/core';
import { changedRows, inOrder } from './changed-rows.js';

interface Numbered {
  readonly number: number;
}

/** What turns one table into another; `removes` are row numbers, ascending, as are the upserts. */
export interface TableDelta<Row> {
  readonly upserts: readonly Row[];
  readonly removes: readonly number[];
}

export function diffRules(before: readonly RuleRow[], after: readonly RuleRow[]): TableDelta<RuleRow> {
  return diffRows(before, after, ruleBytes);
}

export function diffChains(before: readonly ChainRow[], after: readonly ChainRow[]): TableDelta<ChainRow> {
  return diffRows(before, after, chainBytes);
}

/** The table after a delta, in the order of numbers. `full`: the upserts are the whole table. */
export function applyDelta<Row extends Numbered>(
  before: readonly Row[],
  { upserts, removes, full }: TableDelta<Row> & { readonly full: boolean },
): Row[] {
  const changed = new Map(upserts.map((row) => [row.number, row]));
  const gone = new Set(removes);
  const kept = full ? [] : inOrder(before).filter(({ number }) => !gone.has(number) && !changed.has(number));
  const added = [...changed.values()].sort(byNumber);
  if (kept.length === 0) return added;
  const out: Row[] = [];
  let at = 0;
  for (const row of kept) {
    for (let next = added[at]; next !== undefined && next.number < row.number; next = added[++at])
      out.push(next);
    out.push(row);
  }
  return out.concat(added.slice(at));
}

/** 32 bytes, the same for equal tables whatever the order of rows and lists. */
export function digestRules(rules: readonly RuleRow[]): Uint8Array {
  return digestRows(rules, ruleBytes);
}

export function digestChains(chains: readonly ChainRow[]): Uint8Array {
  return digestRows(chains, chainBytes);
}

/** The rule with its any-of lists in canonical order, host bits cleared, duplicates gone. */
export function canonicalRule(rule: RuleRow): RuleRow {
  return {
    ...rule,
    sources: canonicalPrefixes(rule.sources),
    destinations: canonicalPrefixes(rule.destinations),
    protocols: canonicalNumbers(rule.protocols),
    sourcePorts: canonicalRanges(rule.sourcePorts),
    destinationPorts: canonicalRanges(rule.destinationPorts),
    appliedTo: canonicalNumbers(rule.appliedTo),
  };
}

function ruleBytes(rule: RuleRow): Uint8Array {
  return RuleRow.encode(canonicalRule(rule)).finish();
}

function chainBytes(chain: ChainRow): Uint8Array {
  return ChainRow.encode({ ...chain, paths: [...chain.paths].sort(byNumber) }).finish();
}

function diffRows<Row extends Numbered>(
  before: readonly Row[],
  after: readonly Row[],
  bytesOf: (row: Row) => Uint8Array,
): TableDelta<Row> {
  return changedRows(
    inOrder(before),
    inOrder(after),
    (was, is) => Buffer.compare(bytesOf(was), bytesOf(is)) === 0,
  );
}

function digestRows<Row extends Numbered>(
  rows: readonly Row[],
  bytesOf: (row: Row) => Uint8Array,
): Uint8Array {
  const hash = createHash('sha256');
  const length = new Uint8Array(4);
  const view = new DataView(length.buffer);
  for (const row of inOrder(rows)) {
    const bytes = bytesOf(row);
    view.setUint32(0, bytes.length);
    hash.update(length).update(bytes);
  }
  return new Uint8Array(hash.digest());
}

function byNumber(x: Numbered, y: Numbered): number {
  return x.number - y.number;
}

function canonicalNumbers(numbers: readonly number[]): number[] {
  return numbers.length < 2 ? [...numbers] : [...new Set(numbers)].sort((x, y) => x - y);
}

function canonicalPrefixes(prefixes: readonly PrefixRow[]): PrefixRow[] {
  const sorted = prefixes
    .map(maskPrefix)
    .sort((x, y) => compareAddresses(x.address, y.address) || x.bits - y.bits);
  return sorted.filter((one, i) => {
    const last = sorted[i - 1];
    return last === undefined || last.bits !== one.bits || compareAddresses(last.address, one.address) !== 0;
  });
}

function canonicalRanges(ranges: readonly PortRange[]): PortRange[] {
  const sorted = [...ranges].sort((x, y) => x.first - y.first || x.last - y.last);
  return sorted.filter((one, i) => {
    const last = sorted[i - 1];
    return last === undefined || last.first !== one.first || last.last !== one.last;
  });
}
