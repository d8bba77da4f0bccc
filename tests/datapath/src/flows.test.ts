// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket, parseFrame } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromRemote, NODES, PORT } from './ends.js';
import { disagreements, riseOf, sendOne } from './fate.js';
import { clearFlows, clientFrame, flowKey, putFlow, readFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig, u32 } from './rig.js';
import { publishAll } from './world.js';

const rig = openRig({ sizes: { flows: 4 } });
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
  rig.events();
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const transport = { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16 } as const;
const request = clientFrame({ transport });
const backward = {
  src: SERVER.ip4,
  dst: CLIENT.ip4,
  transport: { ...transport, srcPort: 443, dstPort: 40_000 },
};
const reply = clientFrame({ ...backward, dstMac: macOf('outside') });
const replyInside = clientFrame(backward);
const requestOutside = clientFrame({ transport, dstMac: macOf('outside') });
const end = (device: Parameters<typeof sendOne>[1], frame: Uint8Array): string =>
  sendOne(rig, device, frame).end;
const { FLOW_ALLOW, FLOW_DROP } = abi.FlowAction;

function returned(): Uint8Array {
  const packet = buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport });
  return fromRemote(
    NODES[1],
    buildEthernet({ dst: NODES[1].innerSrc, src: NODES[1].innerDst, etherType: 0x0800 }, packet),
  );
}

describe('an embryo', () => {
  it('stays one while only its initiator speaks', () => {
    const key = putFlow(rig, { map: 'embryos' });
    expect(end('inside', request)).toBe('forwarded');
    expect(end('underlay', returned())).toBe('forwarded');
    expect(rig.map('flows').lookup(key)).toBeUndefined();
  });

  it('is promoted by the first reply, whole', () => {
    const key = putFlow(rig, { map: 'embryos', rule: 9, slot: 31 });
    expect(end('inside', request)).toBe('forwarded');
    const before = readFlow(rig, key, 'embryos');
    expect(riseOf(rig, 'STAT_PROMOTED', () => expect(end('outside', reply)).toBe('forwarded'))).toBe(1n);
    expect(readFlow(rig, key)).toEqual(before);
    expect(rig.map('embryos').lookup(key)).toBeUndefined();
    expect(rig.count('flow_counters', 31, 0)).toBe(1n);
    expect(rig.count('flow_counters', 31, 1)).toBe(1n);
    expect(riseOf(rig, 'STAT_PROMOTED', () => expect(end('outside', reply)).toBe('forwarded'))).toBe(0n);
  });

  it('is promoted when it is allowed, not when it is dropped', () => {
    const allowed = putFlow(rig, { map: 'embryos', action: FLOW_ALLOW });
    expect(end('outside', reply)).toBe('forwarded');
    expect(rig.map('flows').lookup(allowed)).toBeDefined();
    clearFlows(rig);
    const dropped = putFlow(rig, { map: 'embryos', action: FLOW_DROP });
    expect(end('outside', reply)).toBe('DROP_RULE');
    expect(rig.map('flows').lookup(dropped)).toBeUndefined();
  });

  it('goes on as it is when there is no room for it', () => {
    for (let sport = 1; sport <= 4; sport++) putFlow(rig, { sport });
    const key = putFlow(rig, { map: 'embryos' });
    expect(riseOf(rig, 'STAT_PROMOTE_FULL', () => expect(end('outside', reply)).toBe('forwarded'))).toBe(1n);
    expect(rig.map('embryos').lookup(key)).toBeDefined();
    expect(end('inside', request)).toBe('forwarded');
  });
});

describe('the port by which a flow entered', () => {
  it('decides the forward direction only: replies may enter by any port', () => {
    putFlow(rig);
    expect(end('outside', reply)).toBe('forwarded');
    expect(end('inside', replyInside)).toBe('forwarded');
  });

  it('VTI-11: a forward packet of the same tuple by another port is decided anew, under that port as scope', () => {
    putFlow(rig);
    expect(end('outside', requestOutside)).toBe('punted');
    const [held] = rig.events();
    expect(held?.event).toMatchObject({ type: abi.EventType.EVENT_PUNT_MISS, port: PORT.outside, first: 1 });
    expect(held?.event.key.scope).toBe(PORT.outside);
    putFlow(rig, { scope: PORT.outside, fwdPort: PORT.outside, action: FLOW_DROP });
    expect(end('outside', requestOutside)).toBe('DROP_RULE');
    expect(end('inside', request)).toBe('forwarded');
  });

  it('is learnt from the first forward packet where the reply was seen first', () => {
    const key = putFlow(rig, { fwdPort: 0 });
    expect(end('outside', reply)).toBe('forwarded');
    expect(readFlow(rig, key).fwdPort).toBe(0);
    expect(end('inside', request)).toBe('forwarded');
    expect(readFlow(rig, key).fwdPort).toBe(PORT.inside);
    expect(end('outside', requestOutside)).toBe('punted');
  });

  it('a steered twin under another scope finds its way back from its node', () => {
    const own = putFlow(rig, { action: FLOW_ALLOW });
    putFlow(rig, { scope: PORT.outside, fwdPort: PORT.outside });
    expect(end('underlay', returned())).toBe('DROP_STRICT_RETURN');
    const sent = parseFrame(sendOne(rig, 'outside', requestOutside).data);
    expect(sent.ok && sent.value.ipv4?.dst).toBe(NODES[1].remote);
    expect(readFlow(rig, own).altScope).toBe(PORT.outside);
    const out = parseFrame(sendOne(rig, 'underlay', returned()).data);
    expect(out.ok && out.value.ipv4?.dst).toBe(SERVER.ip4);
  });
});

describe('ports that are used again', () => {
  const { SEEN_FIN_FWD, SEEN_FIN_REV, SEEN_RST, SEEN_REPLY, SEEN_SYN } = abi.FlowSeen;
  const syn = clientFrame({ transport: { ...transport, flags: 2 } });
  const seen = (slot: number, bits: number) =>
    rig.put(
      'flow_counters',
      new Uint8Array(Uint32Array.of(slot).buffer),
      abi.flowCounters.encode({
        packets: new BigUint64Array(2),
        bytes: new BigUint64Array(2),
        lastNs: 1n,
        seen: bits,
        resetMs: new Uint32Array(2),
        nextSeq: new Uint32Array(2),
      }),
    );

  it.each([
    ['reset', SEEN_SYN | SEEN_REPLY | SEEN_RST],
    ['closed by both sides', SEEN_SYN | SEEN_REPLY | SEEN_FIN_FWD | SEEN_FIN_REV],
  ])(
    'a SYN begins another connection where the last was %s: its record goes, and it is decided anew',
    (_how, bits) => {
      for (const map of ['flows', 'embryos'] as const) {
        const key = putFlow(rig, { map, slot: 7 });
        seen(7, bits);
        expect(end('inside', request), 'late packets of the last connection still pass').toBe('forwarded');
        expect(end('inside', syn)).toBe('punted');
        expect(rig.events()[0]?.event).toMatchObject({ type: abi.EventType.EVENT_PUNT_MISS, first: 1 });
        expect(rig.map('flows').lookup(key)).toBeUndefined();
        expect(readFlow(rig, key, 'embryos').word >> BigInt(abi.FlowWord.WORD_ACTION_SHIFT)).toBe(
          BigInt(abi.FlowAction.FLOW_PENDING),
        );
        clearFlows(rig);
      }
    },
  );

  it.each([
    ['one side has closed', SEEN_SYN | SEEN_REPLY | SEEN_FIN_FWD, 2],
    ['it lives', SEEN_SYN | SEEN_REPLY, 2],
    ['it was reset, but this is a SYN-ACK', SEEN_RST, 18],
  ])('a connection stays where it is while %s', (_how, bits, flags) => {
    const key = putFlow(rig, { slot: 7 });
    seen(7, bits);
    expect(end('inside', clientFrame({ transport: { ...transport, flags } }))).toBe('forwarded');
    expect(rig.map('flows').lookup(key)).toBeDefined();
  });

  const flags = (bits: number) => ({ ...transport, flags: bits });
  const from = (side: 'client' | 'server', bits: number): string =>
    side === 'client'
      ? end('inside', clientFrame({ transport: flags(bits) }))
      : end(
          'outside',
          clientFrame({
            ...{ src: SERVER.ip4, dst: CLIENT.ip4, dstMac: macOf('outside') },
            transport: { ...flags(bits), srcPort: 443, dstPort: 40_000 },
          }),
        );
  const bitsOf = (slot: number): number =>
    abi.flowCounters.decode(rig.map('flow_counters').lookup(u32(slot)) ?? new Uint8Array()).seen;

  it.each([
    ['client', 'server'],
    ['server', 'client'],
  ] as const)(
    'an RST counts for so long as the %s that sent it says nothing else: then it was not its own',
    (sender, other) => {
      const key = putFlow(rig, { slot: 7 });
      expect([from(sender, 4), from(other, 16)]).toEqual(['forwarded', 'forwarded']);
      expect(bitsOf(7) & SEEN_RST, 'packets of the other side were on their way').not.toBe(0);
      expect(from(sender, 16)).toBe('forwarded');
      expect(bitsOf(7) & SEEN_RST).toBe(0);
      expect(from('client', 2)).toBe('forwarded'); // a SYN into the middle of a connection that lives
      expect(rig.map('flows').lookup(key)).toBeDefined();
      expect(from(sender, 4)).toBe('forwarded');
      expect(from('client', 2)).toBe('punted');
    },
  );

  it('after one side has closed, all that the other sends goes the same way, its late FIN too, and RSTs', () => {
    const key = putFlow(rig, { slot: 7 });
    const before = readFlow(rig, key).word;
    expect(from('client', 17)).toBe('forwarded');
    for (let i = 0; i < 3; i++)
      expect([from('server', 16), from('client', 16)]).toEqual(['forwarded', 'forwarded']);
    expect(bitsOf(7)).toBe(SEEN_FIN_FWD | SEEN_REPLY);
    const last = [
      from('server', 17),
      from('server', 17),
      from('client', 16),
      from('client', 4),
      from('server', 4),
    ];
    expect(last).toEqual(Array(5).fill('forwarded'));
    expect(readFlow(rig, key).word).toBe(before);
    expect(rig.events()).toEqual([]); // nobody was asked where it goes
  });

  it('what a node returns begins nothing', () => {
    const key = putFlow(rig, { slot: 7 });
    seen(7, SEEN_RST);
    const packet = buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: { ...transport, flags: 2 } });
    const ethernet = { dst: NODES[1].innerSrc, src: NODES[1].innerDst, etherType: 0x0800 };
    expect(end('underlay', fromRemote(NODES[1], buildEthernet(ethernet, packet)))).toBe('forwarded');
    expect(rig.map('flows').lookup(key)).toBeDefined();
  });
});

describe('VRFs', () => {
  it('the same tuple in another VRF is another flow', () => {
    putFlow(rig);
    const blue = {
      number: 4,
      vrf: 8,
      table: rig.tableRow(100),
      kind: abi.PortKind.PORT_INTERNAL,
      flags: abi.PortFlag.PORT_CLASSIFY,
    };
    const row = abi.port.encode({ ...blue, hop: 0, vtiIfindex: 0, mac: new Uint8Array(6), node: 0 });
    rig.put('ports', abi.portKey.encode({ ifindex: rig.ifindex.stranger, vlan: 0, inner: 0, bank: 0 }), row);
    expect(end('stranger', request)).toBe('punted');
    expect(rig.events()[0]?.event.key.vrf).toBe(8);
    rig
      .map('ports')
      .delete(abi.portKey.encode({ ifindex: rig.ifindex.stranger, vlan: 0, inner: 0, bank: 0 }));
  });
});

describe('either end point may sort first', () => {
  it.each([
    ['10.1.0.5', '203.0.113.9'],
    ['203.0.113.9', '10.1.0.5'],
    ['10.1.0.5', '10.1.0.5'],
  ])('%s to %s', (src, dst) => {
    const { key } = flowKey({ src, dst, sport: 9, dport: 4 });
    putFlow(rig, { src, dst, sport: 9, dport: 4, action: FLOW_DROP });
    expect(rig.map('flows').lookup(key)).toBeDefined();
    const there = clientFrame({ src, dst, transport: { ...transport, srcPort: 9, dstPort: 4 } });
    const back = clientFrame({ src: dst, dst: src, transport: { ...transport, srcPort: 4, dstPort: 9 } });
    expect(end('inside', there)).toBe('DROP_RULE');
    expect(end('inside', back)).toBe('DROP_RULE');
  });
});
