// SPDX-License-Identifier: Apache-2.0
/**
 * The bench of groups VTI and TUN: the acceptance lab with one more machine on the underlay, `far`, at the other end of a VTI of the gateway. What far
 * sends is made here frame by frame, and what reaches it is captured, so that both sides of the tunnel are seen as they are on the wire.
 */
import type { CountersResponse } from '@detour/contracts';
import type { IntentDocument } from '@detour/intent';
import {
  type Capture,
  type LabSpec,
  type RawSender,
  startCapture,
  startRawSender,
  waitFor,
} from '@detour/lab';
import {
  buildEthernet,
  buildGeneve,
  buildGre,
  buildIpv4,
  buildUdp,
  type GeneveOption,
  parseFrame,
  parseGeneve,
  parseGre,
} from '@detour/wire';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';

export const EDGE = '192.0.2.1';
export const FAR = '192.0.2.70';
export const VNI = 70;
const MAC = {
  client: '02:00:00:01:00:10',
  inside: '02:00:00:01:00:01',
  server: '02:00:00:02:00:09',
  outside: '02:00:00:02:00:01',
  underlay: '02:00:00:03:00:01',
  far: '02:00:00:03:00:70',
} as const;

export type FarProtocol = 'geneve' | 'gre';
/** Where frames are sent: as the client, as the machine on the uplink, as far, as a firewall on its underlay device. */
export type Place = 'client' | 'server' | 'far' | 'fw1' | 'fw2' | 'fw3';

export interface VtiBench extends AsyncDisposable {
  readonly acc: AcceptanceLab;
  send(place: Place, frames: Iterable<Uint8Array>): Promise<void>;
  /** Captures what goes into and comes out of each firewall (tunnel header off), what reaches far (likewise), client and uplink. */
  watch(filter: string): Promise<Watch>;
  books(): Promise<() => Promise<Books>>;
}

export interface Books {
  /** By reason, of those that occurred. */
  readonly drops: Readonly<Record<string, number>>;
  /** Rule look-ups by port, of those that occurred. */
  readonly lookups: Readonly<Record<string, number>>;
  readonly bypassed: number;
}

export interface Seen {
  readonly atUs: number;
  /** The IP packet. */
  readonly packet: Uint8Array;
}

/** `fw1.in` is what the gateway sent to it, `fw1.out` what it gave back. */
export type Spot = `fw${1 | 2 | 3}.${'in' | 'out'}` | 'far' | 'client' | 'server';
export interface Watch extends AsyncDisposable {
  /** Resolves when this many packets have been seen there. @throws Fault `timeout` */
  reach(spot: Spot, count: number): Promise<void>;
  /** Ends it when all is quiet, and returns what was seen. */
  stop(): Promise<Readonly<Record<Spot, readonly Seen[]>>>;
}

export interface VtiBenchOptions {
  readonly vti: string;
  readonly protocol: FarProtocol;
  readonly intent: (standard: IntentDocument) => IntentDocument;
  /** More settings of tunnel-gw. */
  readonly gateway?: Readonly<Record<string, string>>;
  /** Routes of VRF red, as `ip route add` takes them, beside the standard lab's. */
  readonly routes: readonly string[];
}

export async function startVtiBench(name: string, options: VtiBenchOptions): Promise<VtiBench> {
  const acc = await startAcceptanceLab(name, {
    spec: withFar,
    ...(options.gateway && { gateway: options.gateway }),
    intent: (standard) => options.intent(withVti(standard, options)),
  });
  const senders = new Map<Place, RawSender>();
  for (const route of options.routes)
    await acc.lab.exec('edge1', ['ip', 'route', 'replace', ...route.split(' '), 'table', '100']);
  return {
    acc,
    async send(place, frames) {
      const sender = senders.get(place) ?? startRawSender(acc.lab, place, 'eth0');
      senders.set(place, sender);
      await sender.send(frames);
    },
    watch: (filter) => startWatch(acc, options.protocol, filter),
    async books() {
      const before = await acc.counters();
      return async () => booksBetween(before, await acc.counters());
    },
    [Symbol.asyncDispose]: async () => {
      for (const sender of senders.values()) await sender.close();
      await acc[Symbol.asyncDispose]();
    },
  };
}

/** Nothing at far answers what comes out of the tunnel: no socket, no complaint. */
function withFar(spec: LabSpec): LabSpec {
  const nft =
    'table inet quiet { chain input { type filter hook input priority 0; udp dport 6081 drop; meta l4proto gre drop; }; }';
  // The client's own stack does not know the connections that are made here frame by frame, and must not answer for them.
  const deaf =
    'table inet quiet { chain input { type filter hook input priority 0; ip saddr 203.0.113.0/24 drop; }; }';
  return {
    namespaces: { ...spec.namespaces, far: { nft }, client: { ...spec.namespaces.client, nft: deaf } },
    links: [
      ...spec.links,
      {
        a: { ns: 'far', device: 'eth0', mac: MAC.far, addresses: [`${FAR}/24`], txOffload: 'off' },
        b: { ns: 'underlay', device: 'far', bridge: 'br0', txOffload: 'off', xdpPass: true },
        mtu: 1600,
      },
    ],
  };
}

function withVti(standard: IntentDocument, { vti, protocol }: VtiBenchOptions): IntentDocument {
  const tunnel =
    protocol === 'geneve'
      ? ({ protocol, remote: FAR, vni: VNI, inner: 'l3' } as const)
      : ({ protocol, remote: FAR, key: VNI } as const);
  const port = {
    name: vti,
    kind: 'vti' as const,
    vrf: 'red',
    classify: true,
    addresses: ['169.254.70.1/30'],
    tunnel,
  };
  return {
    ...standard,
    gateways: (standard.gateways ?? []).map((row) => ({ ...row, ports: [...(row.ports ?? []), port] })),
  };
}

export const fromClient = (packet: Uint8Array): Uint8Array =>
  buildEthernet({ dst: MAC.inside, src: MAC.client, etherType: 0x0800 }, packet);
export const fromUplink = (packet: Uint8Array): Uint8Array =>
  buildEthernet({ dst: MAC.outside, src: MAC.server, etherType: 0x0800 }, packet);

export interface FarFields {
  readonly options?: readonly GeneveOption[];
  readonly vni?: number;
  readonly src?: string;
  readonly tos?: number;
}

/** What far sends into the tunnel. */
export function fromFar(protocol: FarProtocol, packet: Uint8Array, fields: FarFields = {}): Uint8Array {
  const { options = [], vni = VNI, src = FAR, tos = 0 } = fields;
  const body =
    protocol === 'gre'
      ? buildGre({ protocol: 0x0800, checksum: false, key: vni }, packet)
      : buildUdp({ srcPort: 51_000, dstPort: 6081 }, buildGeneve({ vni, protocol: 0x0800, options }, packet));
  const outer = buildIpv4({ src, dst: EDGE, protocol: protocol === 'gre' ? 47 : 17, tos }, body);
  return buildEthernet({ dst: MAC.underlay, src: MAC.far, etherType: 0x0800 }, outer);
}

function insideOf(protocol: FarProtocol, frame: Uint8Array): Uint8Array {
  const outer = parseFrame(frame);
  if (!outer.ok) throw new Error(`what reaches far is broken: ${outer.why}, got ${outer.got}`);
  const parsed = protocol === 'gre' ? parseGre(outer.value.payload) : parseGeneve(outer.value.payload);
  if (!parsed.ok) throw new Error(`what reaches far is broken: ${parsed.why}, got ${parsed.got}`);
  return Uint8Array.from(parsed.value.payload);
}

async function startWatch({ lab }: AcceptanceLab, protocol: FarProtocol, filter: string): Promise<Watch> {
  const own = (frame: Uint8Array) => Uint8Array.from(frame.subarray(14));
  const firewalls = ([1, 2, 3] as const).flatMap((n) =>
    (['in', 'out'] as const).map((direction) => ({
      spot: `fw${n}.${direction}` as Spot,
      ns: `fw${n}`,
      device: 'vxlan0',
      direction,
      filter,
      packetOf: own,
    })),
  );
  const outer = `dst host ${FAR} and ${protocol === 'gre' ? 'ip proto 47' : 'udp port 6081'}`;
  const inside = (frame: Uint8Array) => insideOf(protocol, frame);
  const places = [
    ...firewalls,
    {
      spot: 'far' as Spot,
      ns: 'underlay',
      device: 'far',
      direction: 'out' as const,
      filter: outer,
      packetOf: inside,
    },
    { spot: 'client' as Spot, ns: 'client', device: 'eth0', direction: 'in' as const, filter, packetOf: own },
    { spot: 'server' as Spot, ns: 'server', device: 'eth0', direction: 'in' as const, filter, packetOf: own },
  ];
  const captures = new Map<Spot, Capture>();
  await Promise.all(
    places.map(async ({ spot, ns, device, direction, filter: text }) =>
      captures.set(spot, await startCapture(lab, ns, device, { filter: text, direction })),
    ),
  );
  return {
    reach: async (spot, count) => {
      await waitFor(async () => (captures.get(spot)?.packets().length ?? 0) >= count, {
        what: `${count} packets at ${spot}`,
        timeoutMs: 30_000,
        everyMs: 50,
      });
    },
    async stop() {
      const rows = await Promise.all(
        places.map(async ({ spot, packetOf }) => {
          const packets = (await captures.get(spot)?.stop()) ?? [];
          const seen = packets.map(({ bytes, timestampUs }) => ({
            atUs: timestampUs,
            packet: packetOf(bytes),
          }));
          // IPv6 that the gateway's kernel says into the VTI (MLD, router solicitations) is nobody's traffic.
          return [spot, seen.filter(({ packet }) => (packet[0] ?? 0) >> 4 === 4)] as const;
        }),
      );
      return Object.fromEntries(rows) as Record<Spot, Seen[]>;
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([...captures.values()].map((capture) => capture[Symbol.asyncDispose]()));
    },
  };
}

function booksBetween(before: CountersResponse, after: CountersResponse): Books {
  const rise = (now: bigint | undefined, then: bigint | undefined) => Number((now ?? 0n) - (then ?? 0n));
  const some = (rows: (readonly [string, number])[]) =>
    Object.fromEntries(rows.filter(([, count]) => count !== 0));
  const lookupsOf = (rows: CountersResponse, port: string) =>
    rows.ports.find(({ name }) => name === port)?.ruleLookups;
  return {
    drops: some(Object.keys(after.drops).map((name) => [name, rise(after.drops[name], before.drops[name])])),
    lookups: some(
      after.ports.map(({ name }) => [name, rise(lookupsOf(after, name), lookupsOf(before, name))]),
    ),
    bypassed: rise(after.stats.bypassed, before.stats.bypassed),
  };
}
