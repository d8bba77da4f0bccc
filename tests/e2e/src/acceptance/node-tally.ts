// SPDX-License-Identifier: Apache-2.0
/** What the firewalls themselves saw of a crowd: packets by direction and connections, from their own nftables and connection tracking. */
import { parseCounters, readConntrack } from '@detour/lab';
import type { AcceptanceLab } from './acceptance-lab.js';
import { crowdServer } from './crowd.js';

/** Packets that a firewall let through, and the first packets of connections among them. */
export interface NodeTally {
  readonly opened: number;
  readonly toServer: number;
  readonly toClient: number;
}

const TABLE = 'crowd';

/** Behind the firewall's own rules, so that only what it accepted counts. */
const rules = `table inet ${TABLE} {
  counter opened { }
  counter to_server { }
  counter to_client { }
  chain forward {
    type filter hook forward priority filter + 10; policy accept;
    ip daddr ${crowdServer.address} tcp flags & (syn | ack) == syn counter name opened
    ip daddr ${crowdServer.address} counter name to_server
    ip saddr ${crowdServer.address} counter name to_client
  }
}
`;

/** Where firewalls are looked at. */
export type Firewalled = Pick<AcceptanceLab, 'lab' | 'firewalls'>;

export async function countCrowdAtNodes(bench: Firewalled): Promise<void> {
  for (const { name } of bench.firewalls) await bench.lab.exec(name, ['nft', '-f', '-'], { input: rules });
}

export async function readNodeTallies(bench: Firewalled): Promise<Record<string, NodeTally>> {
  const rows = bench.firewalls.map(async ({ name }) => {
    const list = ['nft', '-j', 'list', 'counters', 'table', 'inet', TABLE];
    const counters = parseCounters((await bench.lab.exec(name, list)).stdout);
    const packets = (counter: string) => counters[counter]?.packets ?? 0;
    return [
      name,
      { opened: packets('opened'), toServer: packets('to_server'), toClient: packets('to_client') },
    ] as const;
  });
  return Object.fromEntries(await Promise.all(rows));
}

/** Share of newly opened connections by node since `before`, in percent, and how many there were. */
export function sharesSince(
  before: Readonly<Record<string, NodeTally>>,
  after: Readonly<Record<string, NodeTally>>,
): { readonly opened: number; readonly percent: Readonly<Record<string, number>> } {
  const opened = Object.entries(after).map(
    ([name, tally]) => [name, tally.opened - (before[name]?.opened ?? 0)] as const,
  );
  const sum = opened.reduce((all, [, count]) => all + count, 0);
  return {
    opened: sum,
    percent: Object.fromEntries(opened.map(([name, count]) => [name, (100 * count) / sum])),
  };
}

export interface TrackedFlow {
  readonly node: string;
  /** Which side's packet the firewall saw first. */
  readonly firstFrom: 'client' | 'server';
  /** It saw packets of both directions. */
  readonly bothWays: boolean;
}

/** Every connection of the crowd that a firewall tracks, by client address and port; more than one entry: several firewalls saw it. */
export async function trackedFlows(bench: Firewalled): Promise<Map<string, TrackedFlow[]>> {
  const flows = new Map<string, TrackedFlow[]>();
  for (const { name } of bench.firewalls) {
    for (const row of await readConntrack(bench.lab, name)) {
      const fromServer = row.source === crowdServer.address;
      if (!fromServer && row.destination !== crowdServer.address) continue;
      const client = fromServer
        ? `${row.destination}:${row.destinationPort}`
        : `${row.source}:${row.sourcePort}`;
      const flow: TrackedFlow = {
        node: name,
        firstFrom: fromServer ? 'server' : 'client',
        bothWays: row.replied,
      };
      const known = flows.get(client);
      if (known === undefined) flows.set(client, [flow]);
      else known.push(flow);
    }
  }
  return flows;
}
