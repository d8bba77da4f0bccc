// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import {
  buildEthernet,
  buildPacket,
  concatBytes,
  ETHERTYPE,
  type FrameFields,
  macToBytes,
  toHex,
} from '@detour/wire';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { CHAIN, VRF } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { putFlow } from './flow-records.js';
import { CLIENT, type DeviceName, macOf, SERVER, TABLE } from './network.js';
import { openRig, u32 } from './rig.js';
import { ownKey, publishAll, putPath } from './world.js';

const rig = openRig();
publishAll(rig);
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const { DetourLimit: limit, PortKind: kind, PortFlag: flag, HopKind } = abi;
const NODE = 40;
const PAIR_PATH = 40;
const VLAN_PORT = 41;
const MEMBER = { a: '10.10.10.1', b: '20.20.20.1' } as const;
const INSIDE = abi.FlowWordFlag.WORD_FLAG_INSIDE;

interface Tags {
  readonly vlan: number;
  readonly outer: number;
}
const UNTAGGED: Tags = { vlan: 0, outer: 0 };

const PORT = {
  number: 0,
  vrf: VRF,
  table: rig.tableRow(TABLE),
  kind: 0,
  flags: 0,
  hop: 0,
  vtiIfindex: 0,
  mac: new Uint8Array(6),
  node: 0,
};

function putPort(device: DeviceName, fields: Partial<abi.Port>, { vlan, outer }: Tags = UNTAGGED): void {
  const [first, inner] = outer === 0 ? [vlan, 0] : [outer, vlan];
  const key = { ifindex: rig.ifindex[device], vlan: first, inner, bank: 0 };
  rig.put('ports', abi.portKey.encode(key), abi.port.encode({ ...PORT, ...fields }));
}

function putHop(number: number, { tags = UNTAGGED, ...fields }: Partial<abi.Hop> & { tags?: Tags }): void {
  const header = new Uint8Array(limit.DT_MAX_HEADER);
  abi.hopTags.write(tags, header.subarray(0, abi.hopTags.size));
  const value = abi.hop.encode({
    ifindex: 0,
    node: 0,
    mtu: 1500,
    kind: HopKind.HOP_L2,
    tunnel: 0,
    headerLen: 0,
    outerL3: 0,
    outerIp6: 0,
    innerL3: 0,
    outerCsum: 0,
    dmac: new Uint8Array(6),
    smac: new Uint8Array(6),
    flags: 0,
    typeAt: 0,
    patchAt: 0,
    header,
    ...fields,
  });
  rig.put('hops', number, value);
}

/** A bump in the wire between la0 and lb0, with these tags on both. */
function putPair({ vlan, outer }: Tags, mtu = 1500): void {
  const [a, b] = [macToBytes(macOf('armA')), macToBytes(macOf('armB'))];
  const arm = { node: NODE, mtu, tags: { vlan, outer } };
  putHop(NODE, { ...arm, ifindex: rig.ifindex.armA, smac: a, dmac: b });
  putHop(NODE + limit.DT_SECOND_ARM, { ...arm, ifindex: rig.ifindex.armB, smac: b, dmac: a });
  const service = { kind: kind.PORT_SERVICE, node: NODE };
  const tags = { vlan, outer };
  if (vlan !== 0)
    for (const device of ['armA', 'armB'] as const)
      putPort(device, { kind: kind.PORT_NONE, flags: flag.PORT_TAGS });
  putPort('armA', { ...service, flags: flag.PORT_ARM_A, mac: a, vtiIfindex: rig.ifindex.linkA }, tags);
  putPort('armB', { ...service, flags: flag.PORT_ARM_B, mac: b, vtiIfindex: rig.ifindex.linkB }, tags);
  putPort('linkA', { kind: kind.PORT_LINK_INNER, hop: NODE });
  putPort('linkB', { kind: kind.PORT_LINK_INNER, hop: NODE + limit.DT_SECOND_ARM });
  putPath(rig, 0, PAIR_PATH, { chain: CHAIN.two, nodes: [NODE] });
  for (const address of Object.values(MEMBER)) rig.put('own', ownKey(address, VRF, 0), u32(1));
}

function tagged(frame: Uint8Array, { vlan, outer }: Tags, pcp = 0): Uint8Array {
  const tag = (type: number, id: number) =>
    Uint8Array.of(type >> 8, type & 255, (pcp << 5) | (id >> 8), id & 255);
  const tags = [...(outer === 0 ? [] : [tag(0x88a8, outer)]), ...(vlan === 0 ? [] : [tag(0x8100, vlan)])];
  return concatBytes(frame.subarray(0, 12), ...tags, frame.subarray(12));
}

type Ends = Pick<FrameFields, 'src' | 'dst'> & Partial<FrameFields>;
const payload = new TextEncoder().encode('a payload that nobody may change');
const request = (ends: Ends): Uint8Array =>
  buildPacket({
    transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16, seq: 7 },
    payload,
    ...ends,
  });
const reply = (ends: Ends): Uint8Array =>
  buildPacket({
    transport: { kind: 'tcp', srcPort: 443, dstPort: 40_000, flags: 16, seq: 9 },
    payload,
    ...ends,
    src: ends.dst,
    dst: ends.src,
  });
const frame = (packet: Uint8Array, dst: string, src: string): Uint8Array =>
  buildEthernet(
    { dst, src, etherType: (packet[0] ?? 0) >> 4 === 6 ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4 },
    packet,
  );
const fromClient = (packet: Uint8Array) => frame(packet, macOf('inside'), CLIENT.mac);
const fromServer = (packet: Uint8Array) => frame(packet, macOf('outside'), SERVER.mac);
const forwarded = (device: DeviceName, bytes: Uint8Array): string => {
  const fate = sendOne(rig, device, bytes);
  expect(fate.end).toBe('forwarded');
  return toHex(fate.data);
};

const TAGS: [string, Tags][] = [
  ['untagged', UNTAGGED],
  ['in a VLAN', { vlan: 100, outer: 0 }],
  ['in QinQ', { vlan: 100, outer: 200 }],
];
describe.each(TAGS)('a bump in the wire, %s', (_name, tags) => {
  describe.each([
    ['IPv4', 'ip4'],
    ['IPv6', 'ip6'],
  ] as const)('and a flow of %s that begins inside', (_family, family) => {
    const there: Ends = { src: CLIENT[family], dst: SERVER[family] };
    const onA = (packet: Uint8Array) => tagged(frame(packet, macOf('armB'), macOf('armA')), tags);
    const onB = (packet: Uint8Array) => tagged(frame(packet, macOf('armA'), macOf('armB')), tags);

    it('enters by member b and leaves by a, replies the other way, TTL untouched by the crossing', () => {
      putPair(tags);
      putFlow(rig, { ...there, path: PAIR_PATH, flags: INSIDE });
      expect(forwarded('inside', fromClient(request(there)))).toBe(toHex(onB(request(there))));
      expect(forwarded('armA', onB(request(there)))).toBe(
        toHex(frame(request({ ...there, ttl: 63 }), SERVER.mac, macOf('outside'))),
      );
      expect(forwarded('outside', fromServer(reply(there)))).toBe(toHex(onA(reply(there))));
      expect(forwarded('armB', onA(reply(there)))).toBe(
        toHex(frame(reply({ ...there, ttl: 63 }), CLIENT.mac, macOf('inside'))),
      );
    });

    it('of one that begins outside, the first packets enter by a', () => {
      putPair(tags);
      putFlow(rig, { ...there, path: PAIR_PATH });
      expect(forwarded('inside', fromClient(request(there)))).toBe(toHex(onA(request(there))));
      expect(forwarded('armB', onA(request(there)))).toContain(toHex(request({ ...there, ttl: 63 })));
    });

    it('a packet that comes back by the member to which it was sent has not crossed', () => {
      putPair(tags);
      putFlow(rig, { ...there, path: PAIR_PATH, flags: INSIDE });
      const reflected = tagged(frame(request(there), macOf('armB'), macOf('armA')), tags);
      expect(sendOne(rig, 'armB', reflected).end).toBe('DROP_SERVICE_LOOP');
    });
  });
});

describe('a port that faces a service', () => {
  const there: Ends = { src: CLIENT.ip4, dst: SERVER.ip4 };
  const back = (packet: Uint8Array) => frame(packet, macOf('armA'), macOf('armB'));

  it('classifies nothing: a packet of no flow is dropped, however a rule would see it', () => {
    putPair(UNTAGGED);
    const stray = request({ ...there, transport: { kind: 'tcp', srcPort: 1, dstPort: 443, flags: 2 } });
    expect(sendOne(rig, 'armA', back(stray)).end).toBe('DROP_STRICT_RETURN');
  });

  it("hands ARP, and packets for the gateway's own addresses, to the stack by the arm's own device", () => {
    putPair({ vlan: 100, outer: 0 });
    const arp = buildEthernet(
      { dst: 'ff:ff:ff:ff:ff:ff', src: macOf('armB'), etherType: ETHERTYPE.arp },
      new Uint8Array(46),
    );
    const probe = back(
      buildPacket({
        src: MEMBER.b,
        dst: MEMBER.a,
        ttl: 255,
        transport: { kind: 'udp', srcPort: 49_152, dstPort: 3784 },
        payload,
      }),
    );
    for (const inner of [arp, probe]) {
      const fate = sendOne(rig, 'armA', tagged(inner, { vlan: 100, outer: 0 }));
      expect([fate.end, fate.verdict, toHex(fate.data)]).toEqual(['passed', 'redirect', toHex(inner)]);
    }
  });

  it('puts the tags on what the stack sends', () => {
    putPair({ vlan: 100, outer: 200 });
    const arp = buildEthernet(
      { dst: 'ff:ff:ff:ff:ff:ff', src: macOf('armA'), etherType: ETHERTYPE.arp },
      new Uint8Array(46),
    );
    expect(forwarded('linkA', arp)).toBe(toHex(tagged(arp, { vlan: 100, outer: 200 })));
  });

  it('is left alone while the next hop has no MAC: the packet waits, with the hop row that it is for', () => {
    putPair(UNTAGGED, 0);
    putFlow(rig, { ...there, path: PAIR_PATH, flags: INSIDE });
    rig.events();
    expect(sendOne(rig, 'inside', fromClient(request(there))).end).toBe('punted');
    expect(rig.events()).toMatchObject([
      {
        event: {
          type: abi.EventType.EVENT_PUNT_NEIGH,
          oldPath: NODE + limit.DT_SECOND_ARM,
          op: abi.InjectOp.INJECT_PORT,
        },
      },
    ]);
  });
});

describe('a VLAN of a port', () => {
  const tags = { vlan: 300, outer: 0 };
  const there: Ends = { src: CLIENT.ip4, dst: SERVER.ip4 };
  const putVlan = () => {
    putPort('armA', { kind: kind.PORT_NONE, flags: flag.PORT_TAGS });
    putPort(
      'armA',
      {
        number: VLAN_PORT,
        kind: kind.PORT_INTERNAL,
        flags: flag.PORT_CLASSIFY,
        mac: macToBytes(macOf('armA')),
        vtiIfindex: rig.ifindex.linkA,
      },
      tags,
    );
  };

  it('takes packets with its tag as its own, whatever their priority, and no others', () => {
    putVlan();
    putFlow(rig, { ...there, fwdPort: VLAN_PORT, action: abi.FlowAction.FLOW_ALLOW });
    const plain = frame(request(there), macOf('armA'), CLIENT.mac);
    const left = toHex(frame(request({ ...there, ttl: 63 }), SERVER.mac, macOf('outside')));
    expect(forwarded('armA', tagged(plain, tags))).toBe(left);
    expect(forwarded('armA', tagged(plain, tags, 7))).toBe(left);
    for (const other of [
      plain,
      tagged(plain, { vlan: 301, outer: 0 }),
      tagged(plain, { vlan: 300, outer: 9 }),
    ]) {
      const fate = sendOne(rig, 'armA', other);
      expect([fate.end, fate.verdict, toHex(fate.data)]).toEqual(['passed', 'pass', toHex(other)]); // as it came
    }
  });

  it('puts its tag on what the routing table sends there', () => {
    putVlan();
    putHop(limit.DT_MAX_HOPS - 1, {
      kind: HopKind.HOP_VLAN,
      ifindex: rig.ifindex.armA,
      tags: { vlan: 300, outer: 0 },
    });
    rig.put(
      'egress',
      abi.egressKey.encode({ ifindex: rig.ifindex.outside, bank: 0 }),
      u32(limit.DT_MAX_HOPS - 1),
    );
    putFlow(rig, { ...there, action: abi.FlowAction.FLOW_ALLOW });
    const sent = forwarded('inside', fromClient(request(there)));
    rig.map('egress').delete(abi.egressKey.encode({ ifindex: rig.ifindex.outside, bank: 0 }));
    expect(sent).toBe(
      toHex(tagged(frame(request({ ...there, ttl: 63 }), SERVER.mac, macOf('outside')), tags)),
    );
  });

  it('any bytes behind any tags end once, counted', () => {
    putVlan();
    putPair({ vlan: 100, outer: 200 });
    const type = fc.constantFrom(0x8100, 0x88a8, 0x0800, 0x86dd, 0x0806, 0x9100);
    const bytes = fc.tuple(
      type,
      fc.uint8Array({ minLength: 2, maxLength: 2 }),
      type,
      fc.uint8Array({ maxLength: 90 }),
    );
    fc.assert(
      fc.property(
        fc.constantFrom<DeviceName>('armA', 'armB', 'linkA'),
        bytes,
        (device, [outer, tci, inner, rest]) => {
          const be = (value: number) => Uint8Array.of(value >> 8, value & 255);
          const macs = concatBytes(macToBytes(macOf('armA')), macToBytes(CLIENT.mac));
          sendOne(rig, device, concatBytes(macs, be(outer), tci, be(inner), rest));
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
