// SPDX-License-Identifier: Apache-2.0
import { fromHex } from '@detour/wire';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRouteAnswers, parseRouteEvents, routeQuestion } from './route-wire.js';

/** One netlink message around a body. */
function message(type: number, body: string, { sequence = 7, flags = 0 } = {}): Uint8Array {
  const payload = fromHex(body.replaceAll(' ', ''));
  const bytes = new Uint8Array((16 + payload.byteLength + 3) & ~3);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 16 + payload.byteLength, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  bytes.set(payload, 16);
  return bytes;
}

const NEW = 24;
const DEL = 25;
const table100 = '08000f00 64000000';
const oif = (ifindex: string) => `08000400 ${ifindex}000000`;
// rtmsg: IPv4, /24, table 100, bgp, scope universe, unicast; then RTA_TABLE, RTA_DST 198.51.100.0.
const v4 = `02180000 64ba0001 00000000 ${table100} 08000100 c6336400`;
const v6 = `0a300000 64ba0001 00000000 ${table100} 14000100 20010db8005100000000000000000000`;
const defaultRoute = `02000000 64ba0001 00000000 ${table100}`;
const asked = { family: 4, table: 100, ifindex: 7, sequence: 7 } as const;
const answersTo = (...messages: Uint8Array[]) =>
  parseRouteAnswers(new Uint8Array(Buffer.concat(messages)), asked);

describe('rtnetlink messages about routes', () => {
  it('events name table and prefix, whether a route came or went', () => {
    const all = Buffer.concat([message(NEW, v4), message(DEL, v6), message(NEW, defaultRoute)]);
    expect(parseRouteEvents(all)).toEqual([
      { kind: 'route', table: 100, prefix: '198.51.100.0/24' },
      { kind: 'route', table: 100, prefix: '2001:db8:51::/48' },
      { kind: 'route', table: 100, prefix: '0.0.0.0/0' },
    ]);
  });

  it('devices, addresses and next hops may take any route along', () => {
    for (const type of [16, 17, 20, 21, 104, 105])
      expect([type, parseRouteEvents(message(type, '00000000'))]).toEqual([type, [{ kind: 'anything' }]]);
    expect(parseRouteEvents(message(28, '00000000'))).toEqual([]); // a neighbour
  });

  it('a datagram that was cut may have said anything', () => {
    const cut = message(NEW, v4).subarray(0, 30);
    expect(parseRouteEvents(cut)).toEqual([{ kind: 'anything' }]);
  });

  it('the question has family, table, type and device', () => {
    expect(Buffer.from(routeQuestion({ ...asked, sequence: 9 })).toString('hex')).toBe(
      '2c0000001a000103090000000000000002000000000000010000000008000f00640000000800040007000000',
    );
  });

  it('answers: a route by the device, of one next hop or of several, one of them alive', () => {
    const hop = (ifindex: string, flags: string) => `0800 ${flags} 00 ${ifindex}000000`;
    const many = (...hops: string[]) =>
      `${(4 + 8 * hops.length).toString(16).padStart(2, '0')}00 0900 ${hops.join('')}`;
    const usable = (body: string) =>
      answersTo(message(NEW, body)).map((one) => one.kind === 'route' && one.usable);
    expect(usable(`${v4} ${oif('07')}`)).toEqual([true]);
    expect(usable(`${v4} ${oif('08')}`)).toEqual([false]);
    expect(usable(`${v4} ${many(hop('08', '00'), hop('07', '00'))}`)).toEqual([true]);
    expect(usable(`${v4} ${many(hop('08', '00'), hop('07', '11'))}`)).toEqual([false]); // dead, link down
    expect(usable(`${v4} ${many(hop('08', '00'), hop('09', '00'))}`)).toEqual([false]);
    expect(usable(`${v4.replace('0001 00000000', '0001 10000000')} ${oif('07')}`)).toEqual([false]); // link down
    expect(usable(v4)).toEqual([true]); // a next hop object: the kernel's own filter has spoken
  });

  it('answers: what is of another question, table or type is left out', () => {
    expect(answersTo(message(NEW, v4, { sequence: 8 }))).toEqual([]);
    expect(answersTo(message(NEW, v4.replace(table100, '08000f00 65000000')))).toEqual([]);
    expect(answersTo(message(NEW, v4.replace('64ba0001', '64ba0006')))).toEqual([]); // blackhole
  });

  it('the end says whether the table held still, and what failed', () => {
    expect(answersTo(message(3, '00000000'))).toEqual([{ kind: 'end', errno: 0 }]);
    expect(answersTo(message(3, 'feffffff', { flags: 0x10 }))).toEqual([
      { kind: 'interrupted' },
      { kind: 'end', errno: 2 },
    ]);
    expect(answersTo(message(NEW, v4, { flags: 0x10 }))[0]).toEqual({ kind: 'interrupted' });
    expect(answersTo(message(2, 'eaffffff'))).toEqual([{ kind: 'end', errno: 22 }]);
  });

  it('never throws, on any bytes and any damage', () => {
    const all = new Uint8Array(Buffer.concat([message(NEW, `${v4} ${oif('07')}`), message(DEL, v6)]));
    fc.assert(
      fc.property(
        fc.nat(all.byteLength - 1),
        fc.integer({ min: 0, max: 255 }),
        fc.nat(all.byteLength),
        (at, byte, cut) => {
          const damaged = all.slice(0, cut);
          if (at < cut) damaged[at] = byte;
          expect(parseRouteEvents(damaged).length).toBeLessThanOrEqual(4);
          expect(parseRouteAnswers(damaged, asked).length).toBeLessThanOrEqual(4);
        },
      ),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void parseRouteEvents(bytes)));
  });
});
