// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  buildEthernet,
  buildFrame,
  buildGeneve,
  buildGre,
  buildIpv4,
  buildIpv6,
  buildPacket,
  buildUdp,
  fromHex,
  type Geneve,
  type Gre,
  parseFrame,
  parseGeneve,
  parseGre,
  toHex,
} from './index.js';

const { frames } = JSON.parse(
  readFileSync(new URL('../../../vectors/tunnels.json', import.meta.url), 'utf8'),
) as { frames: Record<string, string> };
const macs = { dst: '02:00:00:00:00:01', src: '02:00:00:00:00:02' };
const udp = {
  src: '10.1.0.5',
  dst: '203.0.113.9',
  transport: { kind: 'udp', srcPort: 5000, dstPort: 53 },
  payload: new TextEncoder().encode('detour 0123456789'),
} as const;
const four = { src: '192.0.2.1', dst: '192.0.2.11' };
const six = { src: '2001:db8:ff::1', dst: '2001:db8:ff::13' };
const ports = { srcPort: 49152, dstPort: 6081 };
const bytesOf = (first: number): Uint8Array => Uint8Array.from({ length: 8 }, (_, i) => first + i);

const over4 = (protocol: number, body: Uint8Array) =>
  buildEthernet({ ...macs, etherType: 0x0800 }, buildIpv4({ ...four, protocol }, body));
const over6 = (nextHeader: number, body: Uint8Array) =>
  buildEthernet({ ...macs, etherType: 0x86dd }, buildIpv6({ ...six, nextHeader }, body));

const built: Record<string, Uint8Array> = {
  'geneve-ethernet': over4(17, buildUdp(ports, buildGeneve({ vni: 4001 }, buildFrame(udp)))),
  'geneve-ip-options': over4(
    17,
    buildUdp(
      ports,
      buildGeneve(
        {
          vni: 0,
          protocol: 0x0800,
          options: [
            { optionClass: 0x108, type: 1, data: bytesOf(1) },
            { optionClass: 0x108, type: 2, data: bytesOf(9) },
            { optionClass: 0x108, type: 3, data: fromHex('deadbeef') },
          ],
        },
        buildPacket(udp),
      ),
    ),
  ),
  'geneve-ethernet-over-ipv6-checksum': over6(
    17,
    buildUdp(ports, buildGeneve({ vni: 4001 }, buildFrame(udp)), six),
  ),
  'geneve-critical': over4(
    17,
    buildUdp(
      ports,
      buildGeneve(
        { vni: 7, options: [{ optionClass: 0xff44, type: 0x81, data: new Uint8Array(8) }] },
        buildFrame(udp),
      ),
    ),
  ),
  'gre-ip': over4(47, buildGre({ protocol: 0x0800, checksum: false }, buildPacket(udp))),
  'gre-ip-key': over4(47, buildGre({ protocol: 0x0800, checksum: false, key: 4001 }, buildPacket(udp))),
  'gre-ethernet-key-checksum': over4(
    47,
    buildGre({ protocol: 0x6558, checksum: true, key: 0xfedcba98 }, buildFrame(udp)),
  ),
  'gre-ip-key-sequence-over-ipv6': over6(
    47,
    buildGre({ protocol: 0x0800, checksum: false, key: 7, sequence: 5 }, buildPacket(udp)),
  ),
};

/** What the tunnel's header says, from a whole outer frame. */
function tunnelOf(name: string, frame: Uint8Array) {
  const outer = parseFrame(frame);
  if (!outer.ok) throw new Error(`${outer.why}: ${outer.got}`);
  const parsed = name.startsWith('gre') ? parseGre(outer.value.payload) : parseGeneve(outer.value.payload);
  if (!parsed.ok) throw new Error(`${parsed.why}: ${parsed.got}`);
  return parsed.value;
}

describe('Geneve and GRE', () => {
  it.each(Object.entries(built))('builds %s as scapy does, and takes it apart', (name, frame) => {
    expect(toHex(frame)).toBe(frames[name]);
    const { header, payload } = tunnelOf(name, frame);
    const inner = header.protocol === 0x6558 ? buildFrame(udp) : buildPacket(udp);
    expect(toHex(payload)).toBe(toHex(inner));
  });

  it('every golden frame is built here', () => {
    expect(Object.keys(frames).sort()).toEqual(Object.keys(built).sort());
  });

  it('the C bit follows the options', () => {
    expect(tunnelOf('geneve', built['geneve-critical'] as Uint8Array).header).toMatchObject({
      critical: true,
      control: false,
      options: [{ optionClass: 0xff44, type: 0x81 }],
    });
    expect(tunnelOf('geneve', built['geneve-ip-options'] as Uint8Array).header).toMatchObject({
      critical: false,
      options: [{ type: 1 }, { type: 2 }, { type: 3 }],
    });
  });

  it.each([
    ['version', '40006558000001000000', 'version 0'],
    ['options beyond the packet', '3f006558000001000000', 'options within the packet'],
    ['an option beyond the options', '010065580000010001080302', 'an option that ends within the options'],
  ])('refuses Geneve with a wrong %s', (_what, hex, why) => {
    expect(parseGeneve(fromHex(hex))).toMatchObject({ ok: false, why });
  });

  it.each([
    ['version', '00010800', 'version 0'],
    ['routing present', '40000800', 'bits 1, 4 and 5 zero (RFC 2784 2.3)'],
    ['a key cut off', '2000080000', 'a header within the packet'],
    ['a wrong checksum', '8000080000010000', 'a sum of 0'],
  ])('refuses GRE with %s', (_what, hex, why) => {
    expect(parseGre(fromHex(hex))).toMatchObject({ ok: false, why });
  });

  const payload = fc.uint8Array({ maxLength: 64 });
  const option = fc.record({
    optionClass: fc.nat(0xffff),
    type: fc.nat(0xff),
    data: fc.nat(7).chain((words) => fc.uint8Array({ minLength: words * 4, maxLength: words * 4 })),
  });
  const geneve: fc.Arbitrary<Geneve> = fc.record({
    vni: fc.nat(0xffffff),
    protocol: fc.nat(0xffff),
    control: fc.boolean(),
    critical: fc.boolean(),
    options: fc.array(option, { maxLength: 7 }),
  });
  const gre: fc.Arbitrary<Gre> = fc.record(
    {
      protocol: fc.nat(0xffff),
      checksum: fc.boolean(),
      key: fc.nat(0xffffffff),
      sequence: fc.nat(0xffffffff),
    },
    { requiredKeys: ['protocol', 'checksum'] },
  );

  it('reads back whatever it writes', () => {
    fc.assert(
      fc.property(geneve, payload, (header, body) => {
        expect(parseGeneve(buildGeneve(header, body))).toEqual({
          ok: true,
          value: { header, payload: body },
        });
      }),
    );
    fc.assert(
      fc.property(gre, payload, (header, body) => {
        expect(parseGre(buildGre(header, body))).toEqual({ ok: true, value: { header, payload: body } });
      }),
    );
  });

  it('never throws and never reads past the end, whatever the bytes are', () => {
    const parsers = [parseGeneve, parseGre];
    const check = (bytes: Uint8Array): void => {
      for (const parse of parsers) {
        const parsed = parse(bytes);
        if (parsed.ok) expect(parsed.value.payload.length).toBeLessThanOrEqual(bytes.length - 4);
        else expect(parsed.why).not.toBe('');
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), check));
    const corpus = Object.values(frames).flatMap((hex) => {
      const outer = parseFrame(fromHex(hex));
      return outer.ok ? [outer.value.payload] : [];
    });
    for (const bytes of corpus) {
      for (let length = 0; length < bytes.length; length++) check(bytes.subarray(0, length));
      fc.assert(
        fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, byte) => {
          const broken = bytes.slice();
          broken[at] = byte;
          check(broken);
        }),
      );
    }
  });
});
