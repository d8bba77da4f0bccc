// SPDX-License-Identifier: Apache-2.0
// The corpora on which packages/wire is fuzzed (its codecs.test.ts), through the datapath of a gateway and of a service node: golden packets of
// vectors/, broken in every way. What the codecs refuse is not forwarded; what is forwarded, they read.
import { readFileSync } from 'node:fs';
import { abi } from '@detour/contracts';
import {
  brokenPackets,
  buildFrame,
  fromHex,
  macToBytes,
  parseEthernet,
  parseFrame,
  parseIpv4,
  parseIpv6,
  toHex,
} from '@detour/wire';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { OWN } from './ends.js';
import { disagreements } from './fate.js';
import { clearFlows, putFlow } from './flow-records.js';
import { CLIENT, type DeviceName, macOf, SERVER } from './network.js';
import { type NodeKind, openNodeRig } from './node-rig.js';
import { openRig } from './rig.js';
import { publishAll } from './world.js';

const vectors = (file: string): Record<string, unknown> =>
  JSON.parse(readFileSync(new URL(`../../../vectors/${file}`, import.meta.url), 'utf8'));
const framesOf = (file: string): [string, Uint8Array][] =>
  Object.entries(vectors(file).frames as Record<string, string>).map(([name, hex]) => [name, fromHex(hex)]);
const plain = framesOf('frames.json');
const tunnels = framesOf('tunnels.json');
const { accepted, refused } = vectors('bfd.json') as Record<string, { name: string; hex: string }[]>;
const bfd: [string, Uint8Array][] = [...(accepted ?? []), ...(refused ?? [])].map(({ name, hex }) => [
  `BFD: ${name}`,
  buildFrame({
    src: CLIENT.ip4,
    dst: OWN.ip4,
    ttl: 255,
    transport: { kind: 'udp', srcPort: 49_152, dstPort: 3784 },
    payload: fromHex(hex.replaceAll(' ', '')),
  }),
]);

const rig = openRig();
const node = openNodeRig(rig);
beforeAll(() => publishAll(rig));
beforeEach(() => {
  clearFlows(rig);
  rig.put('flow_counters', 1, new Uint8Array(abi.flowCounters.size)); // a broken packet may have been the last of its connection
  for (const ends of [
    { src: CLIENT.ip4, dst: SERVER.ip4 },
    { src: CLIENT.ip6, dst: SERVER.ip6 },
  ]) {
    putFlow(rig, ends);
    putFlow(rig, { ...ends, proto: 17, sport: 5000, dport: 53 });
  }
});
afterEach(() => {
  expect(disagreements(rig)).toEqual([]);
  rig.events();
});
afterAll(() => {
  node[Symbol.dispose]();
  rig[Symbol.dispose]();
});

/** What the codecs say of a frame's Ethernet and IP headers. */
function headersRead(frame: Uint8Array): boolean {
  const ethernet = parseEthernet(frame);
  if (!ethernet.ok) return false;
  const { header, payload } = ethernet.value;
  if (header.etherType === 0x0800) return parseIpv4(payload).ok;
  return header.etherType === 0x86dd && parseIpv6(payload).ok;
}

/** To the device's own MAC address: another one is not looked at. */
function addressed(frame: Uint8Array, device: DeviceName): Uint8Array {
  const copy = frame.slice();
  copy.set(macToBytes(macOf(device)));
  return copy;
}

describe.each(['inside', 'underlay', 'inject'] as const)('a gateway, %s', (device) => {
  it.each([...plain, ...tunnels, ...bfd])('%s', (name, frame) => {
    const seen = { redirect: 0, pass: 0, drop: 0 };
    for (const broken of brokenPackets(addressed(frame, device))) {
      if (broken.length < 14) continue; // the kernel hands out no less than an Ethernet header
      const { verdict, data } = rig.send(device, broken);
      seen[verdict]++;
      if (verdict !== 'redirect') continue;
      expect([toHex(broken), headersRead(broken)]).toEqual([toHex(broken), true]);
      const read = parseFrame(data);
      expect([toHex(broken), read.ok && (read.value.ipv4 ?? read.value.ipv6) !== undefined]).toEqual([
        toHex(broken),
        true,
      ]);
    }
    if (device === 'inside' && /tcp|udp/.test(name)) expect(seen.redirect).toBeGreaterThan(0);
    expect(seen.drop + seen.pass).toBeGreaterThan(frame.length);
  });
});

const at = (remote: string, fields: object): NodeKind => ({ remote, ...fields }) as NodeKind;
const FOUR = '192.0.2.11';
const SIX = '2001:db8:ff::13';
/** The node to which each golden tunnel packet goes, and whether it takes it. */
const NODES: Readonly<Record<string, readonly [NodeKind, boolean]>> = {
  vxlan: [at(FOUR, { protocol: 'vxlan', l3: false, tag: 4001 }), true],
  'geneve-ethernet': [at(FOUR, { protocol: 'geneve', l3: false, tag: 4001 }), true],
  'geneve-ip-options': [at(FOUR, { protocol: 'geneve', l3: true, tag: 0 }), true],
  'geneve-ethernet-over-ipv6-checksum': [at(SIX, { protocol: 'geneve', l3: false, tag: 4001 }), true],
  'geneve-critical': [at(FOUR, { protocol: 'geneve', l3: false, tag: 7 }), false],
  'gre-ip': [at(FOUR, { protocol: 'gre', l3: true }), true],
  'gre-ip-key': [at(FOUR, { protocol: 'gre', l3: true, tag: 4001 }), true],
  'gre-ethernet-key-checksum': [at(FOUR, { protocol: 'gre', l3: false, tag: 0xfedcba98 }), true],
  'gre-ip-key-sequence-over-ipv6': [at(SIX, { protocol: 'gre', l3: true, tag: 7 }), false],
};

describe('a service node', () => {
  const golden = [...plain.filter(([name]) => name === 'vxlan'), ...tunnels];
  it('every tunnel packet has its node here', () => {
    expect(golden.map(([name]) => name).sort()).toEqual(Object.keys(NODES).sort());
  });

  it.each(golden)('%s', (name, frame) => {
    const [kind, taken] = NODES[name] ?? [at(FOUR, {}), false];
    node.setUp(kind);
    expect(node.underlay(frame).verdict).toBe(taken ? 'redirect' : 'drop');
    for (const broken of brokenPackets(frame)) {
      if (broken.length < 14) continue;
      const { verdict, data } = node.underlay(broken);
      if (verdict !== 'redirect') continue;
      expect([toHex(broken), headersRead(broken)]).toEqual([toHex(broken), true]);
      expect([toHex(broken), parseEthernet(data).ok]).toEqual([toHex(broken), true]);
    }
  });

  it.each(['geneve-ethernet', 'gre-ip'])('what it hands back, of a flow behind %s', (name) => {
    const [, frame = new Uint8Array()] = golden.find(([its]) => its === name) ?? [];
    node.setUp(NODES[name]?.[0] ?? at(FOUR, {}));
    expect(node.underlay(frame).verdict).toBe('redirect');
    for (const [, inside] of [...plain, ...bfd])
      for (const broken of brokenPackets(inside)) {
        if (broken.length < 14) continue;
        for (const side of [0, 1, 'link'] as const) {
          const { verdict, data } = node.side(side, broken);
          // What goes back has the header with which its flow came in front.
          if (verdict === 'redirect') expect(headersRead(data)).toBe(true);
          else expect(verdict).toBe('drop');
        }
      }
  });
});
