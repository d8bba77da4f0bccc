// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  buildArp,
  buildEthernet,
  buildFrame,
  buildIpv4,
  buildUdp,
  buildVxlan,
  type FrameFields,
  fromHex,
  ipToKeyBytes,
  ipv6FromBytes,
  ipv6ToBytes,
  parseArp,
  parseFrame,
  parseVxlan,
  toHex,
} from './index.js';

const golden = JSON.parse(readFileSync(new URL('../../../vectors/frames.json', import.meta.url), 'utf8')) as {
  frames: Record<string, string>;
};
const payload = new TextEncoder().encode('detour 0123456789');
const four = { src: '10.1.0.5', dst: '203.0.113.9' };
const six = { src: '2001:db8:1::5', dst: '2001:db8:2::9' };
const syn = { kind: 'tcp', srcPort: 40000, dstPort: 443, seq: 1 } as const;
const udp = { kind: 'udp', srcPort: 5000, dstPort: 53 } as const;
const echo = { kind: 'echo', identifier: 77, sequence: 3 } as const;
const plain: Record<string, FrameFields> = {
  'ipv4-tcp-syn': { ...four, transport: syn },
  'ipv4-udp': { ...four, transport: udp, payload },
  'ipv4-echo': { ...four, transport: echo, payload },
  'ipv6-tcp-syn': { ...six, transport: syn },
  'ipv6-udp': { ...six, transport: udp, payload },
  'ipv6-echo': { ...six, transport: echo, payload },
};
const macs = { dst: '02:00:00:00:00:01', src: '02:00:00:00:00:02' };

describe('frames', () => {
  it('takes a first fragment apart in which the transport layer is cut', () => {
    const body = buildUdp({ srcPort: 5000, dstPort: 53 }, new Uint8Array(100), four).subarray(0, 48);
    const ip = { ...four, protocol: 17, dontFragment: false };
    const frame = (fields: object) =>
      parseFrame(buildEthernet({ ...macs, etherType: 0x0800 }, buildIpv4({ ...ip, ...fields }, body)));
    expect(frame({ moreFragments: true })).toMatchObject({
      ok: true,
      value: { ipv4: { moreFragments: true }, payload: body },
    });
    expect(frame({})).toMatchObject({ ok: false, why: 'a length within the packet' });
  });

  it.each(Object.entries(plain))('builds %s as scapy does, and takes it apart', (name, fields) => {
    const frame = buildFrame(fields);
    expect(toHex(frame)).toBe(golden.frames[name]);
    const parsed = parseFrame(frame);
    if (!parsed.ok) throw new Error(`${parsed.why}: ${parsed.got}`);
    expect((parsed.value.ipv4 ?? parsed.value.ipv6)?.src).toBe(fields.src);
    expect(toHex(parsed.value.payload)).toBe(toHex(fields.payload ?? new Uint8Array(0)));
  });

  it('builds VXLAN and ARP as scapy does', () => {
    const inner = buildFrame({ ...four, transport: udp, payload });
    const outer = buildUdp({ srcPort: 49152, dstPort: 4789 }, buildVxlan({ vni: 4001 }, inner));
    const packet = buildIpv4({ src: '192.0.2.1', dst: '192.0.2.11', protocol: 17 }, outer);
    const frame = buildEthernet({ ...macs, etherType: 0x0800 }, packet);
    expect(toHex(frame)).toBe(golden.frames.vxlan);
    const parsed = parseFrame(frame);
    expect(parsed.ok && parseVxlan(parsed.value.payload)).toMatchObject({
      ok: true,
      value: { header: { vni: 4001 } },
    });
    const arp = {
      op: 'request',
      senderMac: macs.src,
      senderIp: '10.1.0.5',
      targetMac: '00:00:00:00:00:00',
      targetIp: '10.1.0.1',
    } as const;
    const asked = buildEthernet(
      { dst: 'ff:ff:ff:ff:ff:ff', src: macs.src, etherType: 0x0806 },
      buildArp(arp),
    );
    expect(toHex(asked)).toBe(golden.frames['arp-request']);
    expect(parseArp(buildArp(arp))).toEqual({ ok: true, value: arp });
  });

  it('refuses every truncation of every golden frame with a reason, and never throws on flipped bytes', () => {
    for (const hex of Object.values(golden.frames)) {
      const frame = fromHex(hex);
      for (let length = 0; length < frame.length; length++) {
        const parsed = parseFrame(frame.subarray(0, length));
        if (parsed.ok) expect(parsed.value.ipv4 ?? parsed.value.ipv6).toBeUndefined();
        else expect(parsed.why).not.toBe('');
      }
      fc.assert(
        fc.property(fc.nat(frame.length - 1), fc.nat(255), (at, byte) => {
          const broken = frame.slice();
          broken[at] = byte;
          parseFrame(broken);
        }),
      );
    }
  });
});

describe('addresses', () => {
  it.each(['::', '::1', '2001:db8::1', '1:0:0:2::3', 'fe80::1:0:0:1', '1:2:3:4:5:6:7:8'])(
    'keeps %s',
    (text) => {
      expect(ipv6FromBytes(ipv6ToBytes(text))).toBe(text);
    },
  );

  it('reads back any 16 bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        expect(toHex(ipv6ToBytes(ipv6FromBytes(bytes)))).toBe(toHex(bytes));
      }),
    );
  });

  it('maps IPv4 into keys', () => {
    expect(toHex(ipToKeyBytes('10.1.0.5'))).toBe('00000000000000000000ffff0a010005');
  });
});
