// SPDX-License-Identifier: Apache-2.0
/** Do the sums agree? Every packet that a crowd sent was delivered, dropped by the gateway with a reason, or ended in a node. */
import { waitFor } from '@detour/lab';
import { type Crowd, total } from './crowd.js';
import type { GatewayQuestions } from './gateway-questions.js';

export interface Books {
  readonly sent: number;
  readonly delivered: number;
  /** By the gateway, by reason; reasons that did not occur are left out. */
  readonly dropped: Readonly<Record<string, number>>;
  /** Packets that the gateway sent to a node and that did not come back, by node; others are left out. */
  readonly endedInNode: Readonly<Record<string, number>>;
  readonly corrupt: number;
  readonly foreign: number;
  readonly duplicated: number;
  readonly reordered: number;
  /** Packets that arrived, by how many routers they had passed: client or server, gateway, nodes. */
  readonly hops: Readonly<Record<string, number>>;
  readonly bypassed: number;
}

/** A packet that went through one node was routed by the gateway, by the node, … and arrives with this many hops behind it. */
export const HOPS_THROUGH_ONE_NODE = 2;
const START_TTL = 64;

/** Who knows what was sent, delivered and dropped. */
export type Counted = { readonly crowd: Crowd } & Pick<GatewayQuestions, 'counters' | 'status'>;

interface Snapshot {
  readonly sent: number;
  readonly delivered: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly drops: Readonly<Record<string, bigint>>;
  readonly nodes: Readonly<Record<string, bigint>>;
  readonly ttl: Readonly<Record<string, number>>;
  readonly bypassed: bigint;
}

export interface Balance {
  /** What has happened since the balance was opened, once the sums agree. @throws Fault `timeout` with the sums when they never do. */
  settle(): Promise<Books>;
}

/**
 * `background`: reasons for which the gateway drops packets of its own, such as BFD into a tunnel without a neighbour. They are left out: a
 * packet of the crowd that was dropped so would be missing from the sums.
 */
export async function openBalance(
  bench: Counted,
  { background = [] }: { readonly background?: readonly string[] } = {},
): Promise<Balance> {
  const before = await snapshot(bench);
  const books = (now: Snapshot): Books => ({
    sent: now.sent - before.sent,
    delivered: now.delivered - before.delivered,
    dropped: without(difference(before.drops, now.drops), background),
    endedInNode: difference(before.nodes, now.nodes),
    corrupt: at(now.counts, 'corrupt') - at(before.counts, 'corrupt'),
    foreign: at(now.counts, 'foreign') - at(before.counts, 'foreign'),
    duplicated: at(now.counts, 'duplicated') - at(before.counts, 'duplicated'),
    reordered: at(now.counts, 'reordered') - at(before.counts, 'reordered'),
    hops: Object.fromEntries(
      Object.entries(difference(before.ttl, now.ttl)).map(([ttl, count]) => [START_TTL - Number(ttl), count]),
    ),
    bypassed: Number(now.bypassed - before.bypassed),
  });
  return {
    async settle() {
      let last: Books | undefined;
      try {
        return await waitFor(
          async () => {
            last = books(await snapshot(bench));
            return last.sent === last.delivered + total(last.dropped) + total(last.endedInNode) && last;
          },
          { what: 'delivered + dropped by reason = sent', timeoutMs: 5_000, everyMs: 50 },
        );
      } catch (error) {
        throw new Error(`the sums do not agree: ${JSON.stringify(last)}`, { cause: error });
      }
    },
  };
}

async function snapshot({ crowd, counters, status }: Counted): Promise<Snapshot> {
  const sides = [await crowd.client.report(), await crowd.server.report()];
  const { drops, stats } = await counters();
  const { nodes } = await status();
  const sum = (pick: (side: (typeof sides)[number]) => number) =>
    sides.reduce((all, side) => all + pick(side), 0);
  const ttl: Record<string, number> = {};
  for (const side of sides)
    for (const [value, count] of Object.entries(side.ttl)) ttl[value] = (ttl[value] ?? 0) + count;
  return {
    sent: sum((side) => total(side.sent)),
    delivered: sum((side) => total(side.received)),
    counts: {
      corrupt: sum((side) => side.corrupt),
      foreign: sum((side) => side.foreign),
      duplicated: sum((side) => side.duplicated),
      reordered: sum((side) => side.reordered),
    },
    drops,
    nodes: Object.fromEntries(nodes.map((node) => [node.name, node.toPackets - node.fromPackets])),
    ttl,
    bypassed: stats.bypassed ?? 0n,
  };
}

function difference(
  before: Readonly<Record<string, bigint | number>>,
  after: Readonly<Record<string, bigint | number>>,
): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after)
      .map(([name, value]) => [name, Number(value) - Number(before[name] ?? 0)] as const)
      .filter(([, value]) => value !== 0),
  );
}

function without(counts: Readonly<Record<string, number>>, names: readonly string[]): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).filter(([name]) => !names.includes(name)));
}

function at(counts: Readonly<Record<string, number>>, name: string): number {
  return counts[name] ?? 0;
}
