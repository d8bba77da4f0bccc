// SPDX-License-Identifier: Apache-2.0
/** Packets between the hosts of a VRF of the pair lab, and what of them was seen at which place. */
import { type Capture, type CapturedPacket, startCapture, waitFor } from '@detour/lab';
import { buildFrame, type Frame, type FrameFields, parseFrame, TCP_FLAG, toHex } from '@detour/wire';
import { crowdMacs } from './crowd.js';
import type { PairLab } from './pair-lab.js';
import { memberMacs, pairAddresses } from './pair-topology.js';

/** `down`: from the uplink to the inside. */
export type Direction = 'down' | 'up';

export interface PacketFields {
  readonly direction: Direction;
  /** Of the north; the south's port is `port`. */
  readonly northPort?: number;
  readonly port?: number;
  readonly north?: string;
  readonly south?: string;
  readonly flags?: number;
  readonly payload?: string;
  readonly udp?: boolean;
}

const { syn, ack, psh } = TCP_FLAG;
export const FLAGS = { syn, synAck: syn | ack, data: psh | ack } as const;

/** A packet of the flow north:northPort → south:80 (TCP), as the host of that side sends it. */
export function pairFrame(fields: PacketFields): Uint8Array {
  return buildFrame(pairFields(fields));
}

export function pairFields({ direction, ...fields }: PacketFields): FrameFields {
  const down = direction === 'down';
  const { ownMac, gatewayMac } = crowdMacs[down ? 'client' : 'server'];
  const { north = pairAddresses.north, south = pairAddresses.south, northPort = 40_000, port = 80 } = fields;
  const [srcPort, dstPort] = down ? [northPort, port] : [port, northPort];
  const flags = fields.flags ?? FLAGS.data;
  return {
    srcMac: ownMac,
    dstMac: gatewayMac,
    src: down ? north : south,
    dst: down ? south : north,
    ttl: 64,
    transport: fields.udp
      ? { kind: 'udp', srcPort, dstPort }
      : { kind: 'tcp', srcPort, dstPort, seq: 1, ack: flags & ack ? 1 : 0, flags },
    payload: new TextEncoder().encode(fields.payload ?? ''),
  };
}

/** The hosts' own traffic, without what the gateway sends itself. */
const TENANTS = 'net 10.1.0.0/16 or net 203.0.113.0/24 or ip6 net 2001:db8::/32';

export interface Seen extends Frame {
  readonly bytes: Uint8Array;
  readonly atUs: number;
  readonly text: string;
}

/** Both directions of every place of a VRF; `a` and `b` are the node's ends of the links La and Lb. */
export interface Views extends AsyncDisposable {
  stop(): Promise<Record<'north' | 'a' | 'b' | 'south', Seen[]>>;
}

export async function watchPair(bench: PairLab, vrf: string, filter = TENANTS): Promise<Views> {
  const { north, south, node } = bench.place(vrf);
  const at = (ns: string, device: string) => startCapture(bench.lab, ns, device, { filter });
  const captures: Capture[] = [];
  for (const [ns, device] of [
    [north, 'eth0'],
    [node, 'a'],
    [node, 'b'],
    [south, 'eth0'],
  ] as const)
    captures.push(await at(ns, device));
  return {
    async stop() {
      const [n = [], a = [], b = [], s = []] = await Promise.all(captures.map((one) => one.stop()));
      return { north: n.map(seenOf), a: a.map(seenOf), b: b.map(seenOf), south: s.map(seenOf) };
    },
    async [Symbol.asyncDispose]() {
      for (const one of captures) await one[Symbol.asyncDispose]();
    },
  };
}

function seenOf({ bytes, timestampUs }: CapturedPacket): Seen {
  const parsed = parseFrame(bytes);
  if (!parsed.ok) throw new Error(`a frame that cannot be read: ${parsed.why}`);
  return {
    ...parsed.value,
    bytes,
    atUs: timestampUs,
    text: new TextDecoder().decode(parsed.value.payload),
  };
}

/** Frames that this MAC address sent. */
export function sentBy(frames: readonly Seen[], mac: string): Seen[] {
  return frames.filter(({ ethernet }) => ethernet.src === mac);
}

export const edgeMacs = (bench: PairLab, vrf: string) => memberMacs(bench.place(vrf).index);

/** The IP packet of a frame, in hex; with the TTL (and what follows from it, the header's checksum) set to that of another. */
export function packetOf(frame: Uint8Array, ttlOf?: Uint8Array): string {
  const packet = frame.slice(14);
  const other = ttlOf?.subarray(14);
  if (other !== undefined) {
    packet[8] = other[8] ?? 0;
    packet.set(other.subarray(10, 12), 10);
  }
  return toHex(packet);
}

/** What the gateway counted between two moments. */
export async function countGateway(bench: PairLab): Promise<() => Promise<GatewayCounts>> {
  const read = async () => {
    const { drops, stats, ports } = await bench.counters();
    const { nodes } = await bench.status();
    return { drops, stats, ports, nodes };
  };
  const before = await read();
  return async () => {
    const now = await read();
    const less = (a: Record<string, bigint>, b: Record<string, bigint>) =>
      Object.fromEntries(
        Object.entries(b).flatMap(([name, value]) => {
          const count = Number(value - (a[name] ?? 0n));
          return count === 0 ? [] : [[name, count]];
        }),
      );
    const byName = <T extends { name: string }>(rows: readonly T[], pick: (row: T) => bigint) =>
      Object.fromEntries(rows.map((row) => [row.name, pick(row)]));
    return {
      drops: less(before.drops, now.drops),
      stats: less(before.stats, now.stats),
      received: less(
        byName(before.ports, (row) => row.rxPackets),
        byName(now.ports, (row) => row.rxPackets),
      ),
      lookups: less(
        byName(before.ports, (row) => row.ruleLookups),
        byName(now.ports, (row) => row.ruleLookups),
      ),
      toNode: less(
        byName(before.nodes, (row) => row.toPackets),
        byName(now.nodes, (row) => row.toPackets),
      ),
      fromNode: less(
        byName(before.nodes, (row) => row.fromPackets),
        byName(now.nodes, (row) => row.fromPackets),
      ),
    };
  };
}

/** Resolves with the counts when they are as told. @throws Error with the last ones when they never are. */
export async function awaitCounts(
  count: () => Promise<GatewayCounts>,
  are: (counts: GatewayCounts) => boolean,
  timeoutMs = 15_000,
): Promise<GatewayCounts> {
  let last: GatewayCounts | undefined;
  try {
    return await waitFor(
      async () => {
        last = await count();
        return are(last) && last;
      },
      { what: 'the counts', timeoutMs, everyMs: 20 },
    );
  } catch (error) {
    throw new Error(`the gateway counted ${JSON.stringify(last)}`, { cause: error });
  }
}

export type GatewayCounts = Readonly<
  Record<'drops' | 'stats' | 'received' | 'lookups' | 'toNode' | 'fromNode', Readonly<Record<string, number>>>
>;
