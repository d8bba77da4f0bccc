// SPDX-License-Identifier: Apache-2.0
/** Reads the kernel's connection tracking table of a namespace, through conntrack(8). */
import type { Lab } from './lab.js';

/** One tracked connection, in its original direction. Ports are 0 where the protocol has none. */
export interface ConntrackRow {
  /** `tcp`, `udp`, `icmp`, `icmpv6`, … */
  readonly protocol: string;
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** TCP state (`ESTABLISHED`, …), undefined for other protocols. */
  readonly state: string | undefined;
  /** Replies were seen. */
  readonly replied: boolean;
  /** Packets in the original and in the reply direction; undefined where `nf_conntrack_acct` is off. */
  readonly packets: number | undefined;
  readonly replyPackets: number | undefined;
}

export interface ConntrackFilter {
  readonly protocol?: string;
  readonly source?: string;
  readonly destination?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly state?: string;
  readonly replied?: boolean;
}

/** @returns every tracked connection, IPv4 and IPv6, that the filter matches. */
export async function readConntrack(
  lab: Lab,
  ns: string,
  filter: ConntrackFilter = {},
): Promise<ConntrackRow[]> {
  const tables = await Promise.all(
    ['ipv4', 'ipv6'].map((family) => lab.exec(ns, ['conntrack', '-L', '-f', family, '-o', 'extended'])),
  );
  return tables.flatMap(({ stdout }) => parseConntrack(stdout)).filter((row) => isMatch(row, filter));
}

/** Parses `conntrack -L -o extended`; lines that are no entry are skipped. */
export function parseConntrack(text: string): ConntrackRow[] {
  return text.split('\n').flatMap((line) => {
    const match =
      /^ipv[46]\s+\d+\s+(\S+)\s+\d+\s+(?:\d+\s+)?(?:([A-Z_0-9]+)\s+)?src=(\S+) dst=(\S+)(?: sport=(\d+) dport=(\d+))?/.exec(
        line,
      );
    const [, protocol, state, source, destination, sourcePort, destinationPort] = match ?? [];
    if (protocol === undefined || source === undefined || destination === undefined) return [];
    const counted = [...line.matchAll(/ packets=(\d+)/g)].map(([, count]) => Number(count));
    return {
      protocol,
      source,
      destination,
      sourcePort: Number(sourcePort ?? 0),
      destinationPort: Number(destinationPort ?? 0),
      state,
      replied: !line.includes('[UNREPLIED]'),
      packets: counted[0],
      replyPackets: counted[1],
    };
  });
}

function isMatch(row: ConntrackRow, filter: ConntrackFilter): boolean {
  const named: Readonly<Record<string, unknown>> = { ...row };
  return Object.entries(filter).every(([field, wanted]) => wanted === undefined || named[field] === wanted);
}
