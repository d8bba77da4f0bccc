// SPDX-License-Identifier: Apache-2.0
/** Numbered UDP streams, each one flow of its own, and how those that went through one node fared. */

import type { UdpReport } from '../agents/protocol.js';
import { clientAddresses, standardAddresses, standardPorts } from '../standard-lab.js';
import type { UdpStream } from '../traffic.js';
import { waitFor } from '../wait.js';
import { type NearEnd, nearEnd, type Places, placesOfFlows } from './places.js';
import type { Stage } from './stage.js';

const flows = 12;
/** Of each flow; outages are measured to within its distance between packets. */
export const packetsPerSecond = 200;
/** Half of the flows at each node would be six; fewer than this at one is too few to speak of. */
const fewest = 2;

interface Placed {
  readonly stream: UdpStream;
  readonly end: NearEnd;
  readonly node: string;
}

export interface Fate {
  readonly flows: number;
  readonly sent: number;
  readonly lost: number;
  /** The longest time without service of any of them. */
  readonly outageMs: number;
  readonly duplicated: number;
}

export interface Streams {
  /** Where each flow began. */
  places(): Places;
  /** Ends all, and tells of those that began at `node` and of the others. */
  stop(node: string): Promise<{ readonly there: Fate; readonly elsewhere: Fate }>;
}

/** Starts streams until each of the nodes has some, or, without nodes, just starts them. */
export async function startStreams(stage: Stage, nodes: readonly string[]): Promise<Streams> {
  const placed: Placed[] = [];
  for (let attempt = 0; attempt < 4; attempt += 1) {
    placed.push(...(await startSome(stage)));
    if (nodes.every((node) => placed.filter((one) => one.node === node).length >= fewest)) break;
  }
  return {
    places: () => new Map(placed.map(({ end, node }) => [end, node])),
    async stop(node) {
      const reports = await Promise.all(
        placed.map(async (one) => ({ node: one.node, report: await one.stream.stop() })),
      );
      const of = (is: boolean): Fate =>
        fateOf(reports.filter((one) => (one.node === node) === is).map(({ report }) => report));
      return { there: of(true), elsewhere: of(false) };
    },
  };
}

async function startSome({ traffic, detour, signal }: Stage): Promise<Placed[]> {
  const streams = await Promise.all(
    clientAddresses(flows).map((address) =>
      traffic.startUdp({
        remote: { address: standardAddresses.server, port: standardPorts.echo },
        localAddresses: [address],
        pps: packetsPerSecond,
      }),
    ),
  );
  const find = async (): Promise<Placed[] | undefined> => {
    const places = placesOfFlows(await detour.flows(), 'udp');
    const placed = streams.flatMap((stream): Placed[] => {
      const [at] = stream.localPorts;
      const end = at && nearEnd({ localAddress: at.address, localPort: at.port });
      const node = end && places.get(end);
      return end === undefined || node === undefined ? [] : [{ stream, end, node }];
    });
    return placed.length === streams.length ? placed : undefined;
  };
  return waitFor(find, { what: `${flows} UDP flows in detour get flows`, everyMs: 100, signal });
}

function fateOf(reports: readonly UdpReport[]): Fate {
  const sum = (of: (report: UdpReport) => number): number => reports.reduce((all, one) => all + of(one), 0);
  return {
    flows: reports.length,
    sent: sum(({ sent }) => sent),
    lost: sum(({ lost }) => lost),
    duplicated: sum(({ duplicated }) => duplicated),
    outageMs: Math.max(0, ...reports.map(({ outages }) => outages[0]?.lenMs ?? 0)),
  };
}
