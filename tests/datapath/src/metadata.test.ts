// SPDX-License-Identifier: Apache-2.0
// What goes to a node beside the packet and must come back with it: the cookie of a gateway load balancer, our own Geneve option.
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket, concatBytes, type GeneveOption, toHex, viewOf } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, OWN, PATH } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, ENTROPY, putFlow } from './flow-records.js';
import { cameFrom, type Kind, putKind, sentTo } from './kinds.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll } from './world.js';

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const there = { src: CLIENT.ip4, dst: SERVER.ip4 };
const request = (ttl = 64) =>
  buildPacket({ ...there, ttl, transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16 } });
const fromClient = () =>
  buildEthernet({ dst: macOf('inside'), src: CLIENT.mac, etherType: 0x0800 }, request());
const leaves = toHex(
  buildEthernet({ dst: SERVER.mac, src: macOf('outside'), etherType: 0x0800 }, request(63)),
);
const end = (frame: Uint8Array): string => sendOne(rig, 'underlay', frame).end;

/** As datapath/lib/geneve.h makes it, with the secret that publishAll sets. */
function cookieNumber(slot: number): number {
  return (Math.imul(slot, 0x9e3779b1) ^ 0x03020100 ^ 0x07060504) >>> 0;
}
function cookieOf(slot: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, cookieNumber(slot));
  return bytes;
}
const SLOT = 5;

describe('an appliance of a gateway load balancer', () => {
  const id = (last: number) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, last);
  const options = (cookie: Uint8Array): GeneveOption[] => [
    { optionClass: 0x0108, type: 1, data: id(7) },
    { optionClass: 0x0108, type: 2, data: id(1) },
    { optionClass: 0x0108, type: 3, data: cookie },
  ];
  const kind: Kind = {
    protocol: 'geneve',
    l3: true,
    remote: '192.0.2.51',
    tag: 0,
    options: options(new Uint8Array(4)),
    tunnelFlags: abi.TunnelFlag.TUNNEL_COOKIE,
    hopFlags: abi.HopFlag.HOP_COOKIE,
    flowAt: 28,
  };
  beforeEach(() => putKind(rig, kind));

  it('gets all three options with the cookie of the flow, and what it returns with them leaves', () => {
    putFlow(rig, { ...there, slot: SLOT });
    const fate = sendOne(rig, 'inside', fromClient());
    const sent = sentTo(kind, request(), { srcPort: ENTROPY, options: options(cookieOf(SLOT)) });
    expect([fate.end, toHex(fate.data)]).toEqual(['forwarded', toHex(sent)]);
    const back = cameFrom(kind, request(), { srcPort: ENTROPY, options: options(cookieOf(SLOT)) });
    const returned = sendOne(rig, 'underlay', back);
    expect([returned.end, toHex(returned.data)]).toEqual(['forwarded', leaves]);
  });

  it.each([
    ['that is not known', cookieOf(999)],
    ['of no flow', new Uint8Array(4)],
    ['of another flow', cookieOf(SLOT + 1)],
  ])('a cookie %s drops what it returns', (_what, cookie) => {
    putFlow(rig, { ...there, slot: SLOT });
    putFlow(rig, { ...there, sport: 40_001, slot: SLOT + 1 });
    expect(end(cameFrom(kind, request(), { options: options(cookie) }))).toBe('DROP_COOKIE');
  });

  it('without the option, or with one of another length, what it returns is dropped', () => {
    putFlow(rig, { ...there, slot: SLOT });
    expect(end(cameFrom(kind, request(), { options: options(cookieOf(SLOT)).slice(0, 2) }))).toBe(
      'DROP_COOKIE',
    );
    const long = [{ optionClass: 0x0108, type: 3, data: concatBytes(cookieOf(SLOT), new Uint8Array(4)) }];
    expect(end(cameFrom(kind, request(), { options: long }))).toBe('DROP_COOKIE');
  });

  it('a flow that it was never sent is dropped, whatever the cookie', () => {
    expect(end(cameFrom(kind, request(), { options: options(cookieOf(SLOT)) }))).toBe('DROP_STRICT_RETURN');
  });

  it('packets to ourselves come back through it to the VTI', () => {
    const echo = buildPacket({
      src: OWN.ip4,
      dst: OWN.ip4,
      ttl: 254,
      transport: { kind: 'udp', srcPort: 49_152, dstPort: 3785 },
      payload: new Uint8Array(24),
    });
    expect(end(cameFrom(kind, echo, { options: options(new Uint8Array(4)) }))).toBe('passed');
  });
});

describe('our own option', () => {
  const bytes = (change: Partial<abi.GenevePath>): GeneveOption => {
    const whole = abi.genevePath.encode({
      class: 0xff44,
      type: 0x81,
      len: 12,
      version: 1,
      flags: 0,
      sidx: 0,
      budget: 63,
      path: 0,
      chain: 0,
      action: 0,
      scope: 0,
      tenant: 7,
      source: new Uint8Array(16),
      dmac: new Uint8Array(6),
      smac: new Uint8Array(6),
      cookie: 0,
      ...change,
    });
    return { optionClass: 0xff44, type: 0x81, data: whole.subarray(4) };
  };
  const kind: Kind = {
    protocol: 'geneve',
    l3: false,
    remote: '192.0.2.52',
    tag: 6001,
    options: [bytes({})],
    tunnelFlags: abi.TunnelFlag.TUNNEL_PATH,
    hopFlags: abi.HopFlag.HOP_PATH,
    flowAt: 0,
  };
  beforeEach(() => putKind(rig, kind));
  const told = (path: number, chain: number, sidx: number, flags = 0) =>
    bytes({ path, chain, sidx, flags, cookie: cookieNumber(SLOT) });
  const macs = { dst: '02:00:00:00:06:01', src: '02:00:00:00:04:31', etherType: 0x0800 };
  const inside = (option: GeneveOption) =>
    cameFrom(kind, buildEthernet(macs, request()), { options: [option] });

  it('says path, chain, hops still to do, direction and cookie, and returns as it came', () => {
    putFlow(rig, { ...there, slot: SLOT, path: PATH.pair, chain: CHAIN.pair });
    const fate = sendOne(rig, 'inside', fromClient());
    const frame = buildEthernet({ dst: macs.src, src: macs.dst, etherType: 0x0800 }, request());
    const sent = sentTo(kind, frame, { srcPort: ENTROPY, options: [told(PATH.pair, CHAIN.pair, 2)] });
    expect([fate.end, toHex(fate.data)]).toEqual(['forwarded', toHex(sent)]);
    putFlow(rig, { ...there, slot: SLOT });
    const returned = sendOne(rig, 'underlay', inside(told(PATH.one, CHAIN.two, 1)));
    expect([returned.end, toHex(returned.data)]).toEqual(['forwarded', leaves]);
  });

  it('says that a reply is a reply', () => {
    putFlow(rig, { ...there, slot: SLOT });
    const reply = buildPacket({
      src: there.dst,
      dst: there.src,
      transport: { kind: 'tcp', srcPort: 443, dstPort: 40_000, flags: 16 },
    });
    const fate = sendOne(
      rig,
      'outside',
      buildEthernet({ dst: macOf('outside'), src: SERVER.mac, etherType: 0x0800 }, reply),
    );
    const frame = buildEthernet({ dst: macs.src, src: macs.dst, etherType: 0x0800 }, reply);
    const sent = sentTo(kind, frame, { srcPort: ENTROPY, options: [told(PATH.one, CHAIN.two, 1, 1)] });
    expect([fate.end, toHex(fate.data)]).toEqual(['forwarded', toHex(sent)]);
  });

  it.each([
    ['another version', { version: 2 }, 'DROP_TUNNEL_OPTION'],
    ['a message for the other end', { flags: 2 }, 'DROP_TUNNEL_OPTION'],
    ['flow programming, which nobody asked for', { flags: 4 }, 'DROP_TUNNEL_OPTION'],
    ['another cookie', { cookie: cookieNumber(SLOT + 1) }, 'DROP_COOKIE'],
  ])('%s: dropped', (_what, change, want) => {
    putFlow(rig, { ...there, slot: SLOT });
    expect(end(inside(bytes({ cookie: cookieNumber(SLOT), ...change })))).toBe(want);
  });

  it('is missing, or of another length: dropped', () => {
    putFlow(rig, { ...there, slot: SLOT });
    const frame = buildEthernet(macs, request());
    expect(end(cameFrom(kind, frame, { options: [] }))).toBe('DROP_COOKIE');
    const short = { optionClass: 0xff44, type: 0x81, data: new Uint8Array(44) };
    expect(end(cameFrom(kind, frame, { options: [short] }))).toBe('DROP_TUNNEL_HEADER');
  });
});
