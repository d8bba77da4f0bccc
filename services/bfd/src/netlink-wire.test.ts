// SPDX-License-Identifier: Apache-2.0
import { fromHex } from '@detour/wire';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalAddress, parseNetlink } from './netlink-wire.js';

/** One netlink message around a body. */
function message(type: number, body: string): Uint8Array {
  const payload = fromHex(body);
  const bytes = new Uint8Array(16 + payload.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.byteLength, true);
  view.setUint16(4, type, true);
  bytes.set(payload, 16);
  return bytes;
}

// ifinfomsg of device 7, UP and NOARP, named "vti-a", MAC 02:00:00:00:00:01.
const link = message(
  16,
  '0000 0100 07000000 81000000 ffffffff 0a000300 7674692d6100 0000 0a000100 020000000001 0000',
);
// ifaddrmsg: IPv4 169.254.1.1/30 on device 7.
const address = message(20, '021e8000 07000000 08000100 a9fe0101 08000200 a9fe0101 08000800 80000000');
// The same for IPv6 fe80::1, tentative.
const tentative = message(
  20,
  '0a40c000 07000000 14000100 fe800000000000000000000000000001 08000800 c0000000',
);
// ndmsg: 169.254.1.2 on device 7, reachable.
const neighbour = message(28, '02000000 07000000 0200 00 01 08000100 a9fe0102 0a000200 0200000000aa 0000');
const failed = message(28, '02000000 07000000 2000 00 01 08000100 a9fe0102');

describe('rtnetlink messages', () => {
  it('reads devices, addresses and neighbours, several in one datagram', () => {
    const all = Buffer.concat([link, address, tentative, neighbour, failed, message(3, '00000000')]);
    expect(parseNetlink(all)).toEqual([
      { kind: 'link', ifindex: 7, name: 'vti-a', up: true, noArp: true, mac: '02:00:00:00:00:01' },
      { kind: 'address', ifindex: 7, address: '169.254.1.1', usable: true },
      { kind: 'address', ifindex: 7, address: 'fe80::1', usable: false },
      { kind: 'neighbour', ifindex: 7, address: '169.254.1.2', mac: '02:00:00:00:00:aa' },
      { kind: 'neighbour', ifindex: 7, address: '169.254.1.2', mac: null },
      { kind: 'done', sequence: 0 },
    ]);
  });

  it('reads departures, and leaves a bridge port that only leaves its bridge', () => {
    expect(parseNetlink(message(17, '0000 0100 07000000 00000000 ffffffff'))).toEqual([
      { kind: 'link-gone', ifindex: 7 },
    ]);
    expect(parseNetlink(message(17, '0700 0100 07000000 00000000 ffffffff'))).toEqual([]);
    expect(parseNetlink(message(21, '021e8000 07000000 08000200 a9fe0101'))).toEqual([
      { kind: 'address', ifindex: 7, address: '169.254.1.1', usable: false },
    ]);
  });

  it('never throws, on any bytes and any damage', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void parseNetlink(bytes)));
    const all = new Uint8Array(Buffer.concat([link, address, tentative, neighbour]));
    fc.assert(
      fc.property(
        fc.nat(all.byteLength - 1),
        fc.integer({ min: 0, max: 255 }),
        fc.nat(all.byteLength),
        (at, byte, cut) => {
          const damaged = all.slice(0, cut);
          if (at < cut) damaged[at] = byte;
          expect(parseNetlink(damaged).length).toBeLessThanOrEqual(all.byteLength / 16);
        },
      ),
    );
  });

  it('writes addresses in one way', () => {
    expect(canonicalAddress('2001:DB8:0::1')).toBe('2001:db8::1');
    expect(canonicalAddress('169.254.1.1')).toBe('169.254.1.1');
  });
});
