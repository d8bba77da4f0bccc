// SPDX-License-Identifier: Apache-2.0
/** What several acceptance tests expect in the same words: shares within a tolerance, sums that agree, nobody past the nodes. */
import { expect } from 'vitest';
import { type Balance, type Books, HOPS_THROUGH_ONE_NODE } from './balance.js';
import { type Firewalled, trackedFlows } from './node-tally.js';

/** Percent by node, within `tolerance` points absolute. */
export function expectShares(
  percent: Readonly<Record<string, number>>,
  expected: Readonly<Record<string, number>>,
  tolerance: number,
): void {
  const off = Object.entries(expected).filter(
    ([node, share]) => !(Math.abs((percent[node] ?? Number.NaN) - share) <= tolerance),
  );
  expect(off, `shares ${JSON.stringify(percent)}`).toEqual([]);
}

/** delivered + dropped by reason = sent; here nothing was dropped, every packet went through one node, unaltered, once and in order. */
export async function expectAllDelivered(balance: Balance, hops = HOPS_THROUGH_ONE_NODE): Promise<Books> {
  const books = await balance.settle();
  expect(books, JSON.stringify(books)).toMatchObject({
    delivered: books.sent,
    dropped: {},
    endedInNode: {},
    corrupt: 0,
    foreign: 0,
    duplicated: 0,
    reordered: 0,
    bypassed: 0,
    hops: { [hops]: books.sent },
  });
  return books;
}

/** Node of every flow that the firewalls track, or of those named; each is tracked by one of them alone, which has seen both directions. */
export async function nodeOfEachFlow(
  bench: Firewalled,
  named?: readonly string[],
): Promise<Map<string, string>> {
  const wanted = named && new Set(named);
  const tracked = [...(await trackedFlows(bench))].filter(([flow]) => wanted?.has(flow) ?? true);
  const broken = tracked.filter(([, at]) => at.length !== 1 || at[0]?.bothWays !== true);
  expect(broken.slice(0, 5), `${broken.length} of ${tracked.length} flows`).toEqual([]);
  return new Map(tracked.map(([flow, [at]]) => [flow, at?.node ?? '']));
}

/** No firewall met a packet in the middle of a connection that it had not seen begin, or one that it forbids. */
export async function expectNoneRefused(bench: Firewalled): Promise<void> {
  for (const firewall of bench.firewalls) {
    const { invalid, not_syn, other, forbidden } = await firewall.counters();
    expect([invalid?.packets, not_syn?.packets, other?.packets, forbidden?.packets]).toEqual([0, 0, 0, 0]);
  }
}
