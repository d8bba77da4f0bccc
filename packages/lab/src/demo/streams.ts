// SPDX-License-Identifier: Apache-2.0
/** Numbered UDP streams, each one flow of its own, and how those that went through one node fared. */
import type { UdpReport } from '../agents/protocol.js';
import { clientAddresses, standardAddresses, standardPorts } from '../standard-lab.js';
import type { UdpStream } from '../traffic.js';
import { waitFor } from '../wait.js';
import { expectThat } from './act.js';
import { type NearEnd, nearEnd, type Places, placesOfFlows } from './places.js';
import type { Stage } from './stage.js';

const flows = 12;
/** Of each flow; outages are measured to within its distance between packets. */
export const packetsPerSecond = 200;

export interface Fate {
  readonly flows: number;
  readonly sent: number;
  readonly lost: number;
  readonly duplicated: number;
  /** The longest time without service of any of them. */
  readonly outageMs: number;
}

export interface Streams {
  /** Where each flow is now. */
  places(): Promise<Places>;
  /** Ends all; tells how those fared that were at `node` by `places`, and the others. */
  stop(node: string, places: Places): Promise<Fates>;
}

export interface Fates {
  readonly there: Fate;
  readonly elsewhere: Fate;
}

/** Resolves once the gateway knows all of them. */
export async function startStreams({ traffic, detour, signal }: Stage): Promise<Streams> {
  const remote = { address: standardAddresses.server, port: standardPorts.echo };
  const streams = new Map<NearEnd, UdpStream>();
  for (const address of clientAddresses(flows)) {
    const stream = await traffic.startUdp({ remote, localAddresses: [address], pps: packetsPerSecond });
    const [at] = stream.localPorts;
    expectThat(at !== undefined, 'a stream has no socket');
    streams.set(nearEnd({ localAddress: at.address, localPort: at.port }), stream);
  }
  const find = async (): Promise<Places | undefined> => {
    const places = placesOfFlows(await detour.flows(), 'udp');
    const known = [...places].filter(([end]) => streams.has(end));
    return known.length === streams.size ? new Map(known) : undefined;
  };
  const places = (): Promise<Places> =>
    waitFor(find, { what: `${flows} UDP flows in detour get flows`, everyMs: 200, signal });
  await places();
  return {
    places,
    async stop(node, began) {
      const stopping = [...streams].map(async ([end, stream]) => ({ end, report: await stream.stop() }));
      const reports = await Promise.all(stopping);
      const of = (is: boolean): Fate =>
        fateOf(reports.filter(({ end }) => (began.get(end) === node) === is).map(({ report }) => report));
      return { there: of(true), elsewhere: of(false) };
    },
  };
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
