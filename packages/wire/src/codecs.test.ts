// SPDX-License-Identifier: Apache-2.0
// Every codec fuzzed both ways: what it writes it reads back; whatever it is given, it answers, refuses with a reason, and reads nothing behind the end.
// tests/datapath/src/corpus.test.ts gives the datapath the same corpora.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as wire from './index.js';

interface Codec {
  /** Names of what it exports. */
  readonly build: string;
  readonly parse: string;
  /** A value, what it writes of it, and what must be read back. */
  readonly any: fc.Arbitrary<{ readonly bytes: Uint8Array; readonly value: unknown }>;
  readonly read: (bytes: Uint8Array) => {
    readonly ok: boolean;
    readonly value?: unknown;
    readonly why?: string;
  };
}

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const mac = bytesOf(6).map((bytes) => wire.macFromBytes(bytes));
const ip4 = bytesOf(4).map((bytes) => wire.ipv4FromBytes(bytes));
const ip6 = bytesOf(16).map((bytes) => wire.ipv6FromBytes(bytes));
const payload = fc.uint8Array({ maxLength: 64 });
const options = (most: number) => fc.nat(most / 4).chain((words) => bytesOf(words * 4));

/** A codec of a header in front of a payload. */
function layer<H, B>(
  names: readonly [build: string, parse: string],
  header: fc.Arbitrary<H>,
  build: (header: H, body: Uint8Array) => Uint8Array,
  parse: Codec['read'],
  kept: (header: H, bytes: Uint8Array) => B,
): Codec {
  const any = fc.tuple(header, payload).map(([fields, body]) => {
    const bytes = build(fields, body);
    return { bytes, value: { header: kept(fields, bytes), payload: body } };
  });
  return { build: names[0], parse: names[1], any, read: parse };
}
const same = <H>(header: H): H => header;

const ends4 = { src: '10.1.0.5', dst: '203.0.113.9' };
const CODECS: readonly Codec[] = [
  layer(
    ['buildEthernet', 'parseEthernet'],
    fc.record({ dst: mac, src: mac, etherType: u16 }),
    wire.buildEthernet,
    wire.parseEthernet,
    same,
  ),
  {
    build: 'buildArp',
    parse: 'parseArp',
    any: fc
      .record({
        op: fc.constantFrom('request' as const, 'reply' as const),
        senderMac: mac,
        senderIp: ip4,
        targetMac: mac,
        targetIp: ip4,
      })
      .map((value) => ({ bytes: wire.buildArp(value), value })),
    read: wire.parseArp,
  },
  layer(
    ['buildIpv4', 'parseIpv4'],
    fc.record({
      src: ip4,
      dst: ip4,
      protocol: u8,
      ttl: u8,
      tos: u8,
      id: u16,
      dontFragment: fc.boolean(),
      moreFragments: fc.boolean(),
      fragmentOffset: fc.nat(0x1fff),
      options: options(40),
    }),
    wire.buildIpv4,
    wire.parseIpv4,
    same,
  ),
  layer(
    ['buildIpv6', 'parseIpv6'],
    fc.record({
      src: ip6,
      dst: ip6,
      nextHeader: u8,
      hopLimit: u8,
      trafficClass: u8,
      flowLabel: fc.nat(0xfffff),
    }),
    wire.buildIpv6,
    wire.parseIpv6,
    same,
  ),
  layer(
    ['buildUdp', 'parseUdp'],
    fc.record({ srcPort: u16, dstPort: u16 }),
    (header, body) => wire.buildUdp(header, body, ends4),
    wire.parseUdp,
    (header, bytes) => ({ ...header, checksum: wire.viewOf(bytes).getUint16(6) }),
  ),
  layer(
    ['buildTcp', 'parseTcp'],
    fc.record({
      srcPort: u16,
      dstPort: u16,
      seq: u32,
      ack: u32,
      flags: u8,
      window: u16,
      options: options(40),
    }),
    (header, body) => wire.buildTcp(header, body, ends4),
    wire.parseTcp,
    same,
  ),
  layer(
    ['buildIcmp', 'parseIcmp'],
    fc.record({ type: u8, code: u8, rest: u32 }),
    (header, body) => wire.buildIcmp(header, body),
    wire.parseIcmp,
    same,
  ),
  layer(
    ['buildVxlan', 'parseVxlan'],
    fc.record({ vni: fc.nat(0xffffff) }),
    wire.buildVxlan,
    wire.parseVxlan,
    same,
  ),
  layer(
    ['buildGeneve', 'parseGeneve'],
    fc.record({
      vni: fc.nat(0xffffff),
      protocol: u16,
      control: fc.boolean(),
      critical: fc.boolean(),
      options: fc.array(fc.record({ optionClass: u16, type: u8, data: options(28) }), { maxLength: 7 }),
    }),
    wire.buildGeneve,
    wire.parseGeneve,
    same,
  ),
  layer(
    ['buildGre', 'parseGre'],
    fc.record(
      { protocol: u16, checksum: fc.boolean(), key: u32, sequence: u32 },
      { requiredKeys: ['protocol', 'checksum'] },
    ),
    wire.buildGre,
    wire.parseGre,
    same,
  ),
  {
    build: 'encodeBfdPacket',
    parse: 'parseBfdPacket',
    any: fc
      .record({
        diag: fc.nat(31),
        state: fc.constantFrom(...wire.bfdStates),
        poll: fc.boolean(),
        final: fc.boolean(),
        controlPlaneIndependent: fc.boolean(),
        demand: fc.boolean(),
        detectMult: fc.integer({ min: 1, max: 255 }),
        myDiscr: fc.integer({ min: 1, max: 0xffffffff }),
        yourDiscr: fc.integer({ min: 1, max: 0xffffffff }),
        desiredMinTxUs: u32,
        requiredMinRxUs: u32,
        requiredMinEchoRxUs: u32,
      })
      .map((value) => ({ bytes: wire.encodeBfdPacket(value), value })),
    read: (bytes) => {
      const parsed = wire.parseBfdPacket(bytes);
      return parsed.ok ? { ok: true, value: parsed.packet } : parsed;
    },
  },
  {
    build: 'buildFrame',
    parse: 'parseFrame',
    any: fc
      .record({
        v6: fc.boolean(),
        src: u16,
        dst: u16,
        kind: fc.constantFrom('tcp' as const, 'udp' as const),
        payload,
      })
      .map(({ v6, src, dst, kind, payload: body }) => {
        const ends = v6 ? { src: '2001:db8:1::5', dst: '2001:db8:2::9' } : ends4;
        const transport = { kind, srcPort: src, dstPort: dst };
        return {
          bytes: wire.buildFrame({ ...ends, transport, payload: body }),
          value: { kind, src, dst, body },
        };
      }),
    read: (bytes) => {
      const parsed = wire.parseFrame(bytes);
      if (!parsed.ok) return parsed;
      const { tcp, udp, payload: body } = parsed.value;
      const ports = tcp ?? udp;
      return {
        ok: true,
        value: { kind: tcp ? 'tcp' : 'udp', src: ports?.srcPort, dst: ports?.dstPort, body },
      };
    },
  },
];
const codecs = CODECS.map((codec) => [codec.parse, codec] as const);

const golden = (file: string): Record<string, unknown> =>
  JSON.parse(readFileSync(new URL(`../../../vectors/${file}`, import.meta.url), 'utf8'));
const frames = ['frames.json', 'tunnels.json'].flatMap((file) =>
  Object.values(golden(file).frames as Record<string, string>).map(wire.fromHex),
);
const bfd = (golden('bfd.json').accepted as { hex: string }[]).map(({ hex }) =>
  wire.fromHex(hex.replaceAll(' ', '')),
);
/** What every parser is given: golden frames, and what is inside them from each header on. */
const CORPUS = [...frames.flatMap((frame) => [0, 14, 34, 42, 50].map((from) => frame.slice(from))), ...bfd];

/** The same bytes in the middle of others: nothing of those may be read. */
function surrounded(bytes: Uint8Array, fill: number): Uint8Array {
  const room = new Uint8Array(bytes.length + 80).fill(fill);
  room.set(bytes, 40);
  return room.subarray(40, 40 + bytes.length);
}

function check(read: Codec['read'], bytes: Uint8Array): void {
  const parsed = read(bytes);
  if (!parsed.ok) expect(parsed.why).not.toBe('');
  for (const fill of [0x00, 0xff]) expect(read(surrounded(bytes, fill))).toEqual(parsed);
}

describe('every codec', () => {
  it('that is exported is here', () => {
    const exported = Object.keys(wire).filter((name) => /^(parse|build|encode)/.test(name));
    const parts = ['buildPacket', 'buildIpv6Extension', 'buildIpv6Fragment']; // of what buildFrame and buildIpv6 make
    expect(
      CODECS.flatMap(({ build, parse }) => [build, parse])
        .concat(parts)
        .sort(),
    ).toEqual(exported.sort());
  });

  it.each(codecs)('%s reads back what was written', (_name, { any, read }) => {
    fc.assert(
      fc.property(any, ({ bytes, value }) => {
        expect(read(bytes)).toEqual({ ok: true, value });
      }),
    );
  });

  it.each(codecs)('%s: any bytes are answered, and only they', (_name, { read }) => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => check(read, bytes)));
  });

  it.each(codecs)('%s: its own packets and golden ones, broken', (_name, { any, read }) => {
    for (const whole of [...fc.sample(any, { numRuns: 5, seed: 7 }).map(({ bytes }) => bytes), ...CORPUS])
      for (const broken of wire.brokenPackets(whole)) {
        const parsed = read(broken);
        if (!parsed.ok && parsed.why === '') expect(parsed.why).not.toBe('');
      }
    for (const whole of CORPUS)
      for (let end = 0; end <= whole.length; end++) check(read, whole.subarray(0, end));
  });
});
