// SPDX-License-Identifier: Apache-2.0
// A TCP connection whose node is down, of a chain that keeps its flows: what tunnel-gw is told, and the RSTs that it sends.
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket, type FrameFields, toHex } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, NODES, PATH, PORT } from './ends.js';
import { disagreements, riseOf, sendOne } from './fate.js';
import { clientFrame, type FlowFields, flowKey, putFlow, readFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig, u32 } from './rig.js';
import { injected, putChain, putPath, startAfresh } from './world.js';

const rig = openRig();
beforeEach(() => startAfresh(rig));
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const { EVENT_RESET, EVENT_REPIN } = abi.EventType;
const { INJECT_LEAVE } = abi.InjectOp;
const { SEEN_RST } = abi.FlowSeen;
const FLAG = { fin: 1, syn: 2, rst: 4, ack: 16 } as const;
const KEEP = { gen: 2, onNodeDown: abi.OnNodeDown.ON_NODE_DOWN_KEEP };
type Device = Parameters<typeof sendOne>[1];
const end = (device: Device, frame: Uint8Array): string => sendOne(rig, device, frame).end;

/** Path one is down, and its chain keeps flows; there is another path. */
function nodeDown(chain: Partial<abi.Chain> = KEEP): void {
  putPath(rig, 0, PATH.one, { chain: CHAIN.two, nodes: [1], state: abi.PathState.PATH_DOWN });
  putChain(rig, 0, CHAIN.two, [PATH.two], chain);
}

const FAMILIES = [
  ['IPv4', { src: CLIENT.ip4, dst: SERVER.ip4 }],
  ['IPv6', { src: CLIENT.ip6, dst: SERVER.ip6 }],
] as const;
type Ends = (typeof FAMILIES)[number][1];
const numbers = { seq: 0xfffffff0, ack: 7000, flags: FLAG.ack } as const;
const request = (ends: Ends, tcp: object = {}, more: Partial<FrameFields> = {}): Uint8Array =>
  clientFrame({
    ...ends,
    transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443, ...numbers, ...tcp },
    payload: new Uint8Array(100),
    ...more,
  });
const reply = ({ src, dst }: Ends, tcp: object = {}): Uint8Array =>
  clientFrame({
    ...{ src: dst, dst: src, dstMac: macOf('outside') },
    transport: { kind: 'tcp', srcPort: 443, dstPort: 40_000, seq: 6000, ack: 900, flags: FLAG.ack, ...tcp },
  });

/** What tunnel-gw hears. */
function heard(): unknown[] {
  return rig.events().map(({ event, packet }) => {
    expect([event.type, packet.length]).toEqual([EVENT_RESET, 0]);
    const { oldPath, newPath, outIfindex, norm, port, tcpFlags, first } = event;
    return { seq: oldPath, ack: newPath, bytes: outIfindex, norm, port, tcpFlags, first };
  });
}
const counters = (slot = 1): abi.FlowCounters =>
  abi.flowCounters.decode(rig.map('flow_counters').lookup(u32(slot)) ?? new Uint8Array());
/** As if more than a second had passed since that end was told. */
function secondLater(): void {
  const row = counters();
  const resetMs = row.resetMs.map((at) => (at === 0 ? 0 : (at - 1001) >>> 0));
  rig.put('flow_counters', 1, abi.flowCounters.encode({ ...row, resetMs }));
}

describe.each(FAMILIES)('a kept connection over %s whose node is down', (_family, ends) => {
  it('is dropped as node_down; tunnel-gw hears its numbers with its next packet, once', () => {
    const key = putFlow(rig, ends);
    nodeDown();
    const asked = riseOf(rig, 'STAT_RESET', () => {
      for (let i = 0; i < 3; i++) expect(end('inside', request(ends))).toBe('DROP_NODE_DOWN');
    });
    expect(asked).toBe(1n);
    const { norm } = flowKey(ends);
    const lost = { seq: 0xfffffff0, ack: 7000, bytes: 100, norm, port: PORT.inside, tcpFlags: FLAG.ack };
    expect(heard()).toEqual([{ ...lost, first: abi.EventFirst.EVENT_FIRST }]);
    expect(readFlow(rig, key).word & 0x7fffffn).toBe(BigInt(PATH.one));
  });

  it('its other end is told for itself; both again a second later, if they still send', () => {
    putFlow(rig, ends);
    nodeDown();
    const round = (): void => {
      expect(end('inside', request(ends))).toBe('DROP_NODE_DOWN');
      expect(end('outside', reply(ends))).toBe('DROP_NODE_DOWN');
    };
    round();
    round();
    expect(heard()).toMatchObject([
      { seq: 0xfffffff0, port: PORT.inside },
      { seq: 6000, ack: 900, bytes: 0, port: PORT.outside },
    ]);
    secondLater();
    round();
    expect(heard()).toHaveLength(2);
  });

  it('tunnel-gw’s RSTs leave by the routing table, through no node, and the flow is a reset one from then on', () => {
    putFlow(rig, ends);
    nodeDown();
    expect(end('inside', request(ends))).toBe('DROP_NODE_DOWN');
    const leave = (from: 'client' | 'server'): string => {
      const transport = { kind: 'tcp', flags: FLAG.rst } as const;
      const packet =
        from === 'client'
          ? buildPacket({ ...ends, transport: { ...transport, srcPort: 40_000, dstPort: 443 } })
          : buildPacket({
              src: ends.dst,
              dst: ends.src,
              transport: { ...transport, srcPort: 443, dstPort: 40_000 },
            });
      const macs = { dst: '00:00:00:00:00:00', src: '00:00:00:00:00:00' };
      const frame = buildEthernet({ ...macs, etherType: ends.src.includes(':') ? 0x86dd : 0x0800 }, packet);
      const fate = sendOne(rig, 'inject', injected(INJECT_LEAVE, { port: PORT.inside }, frame));
      expect(fate.end).toBe('forwarded');
      return toHex(fate.data.subarray(0, 6)).replace(/(..)(?!$)/g, '$1:');
    };
    expect(counters().seen & SEEN_RST).toBe(0);
    expect([leave('server'), leave('client')]).toEqual([CLIENT.mac, SERVER.mac]);
    expect(counters().seen & SEEN_RST).toBe(SEEN_RST);
    expect(counters().packets).toEqual(BigUint64Array.of(2n, 1n));
    rig.events();
    secondLater();
    expect(end('inside', request(ends))).toBe('DROP_NODE_DOWN');
    expect(heard()).toMatchObject([{ first: 0 }]); // its own end alone is told again
    expect(end('inside', request(ends, { flags: FLAG.syn }))).toBe('punted'); // the ports are free for the next connection
  });

  it('says how much data there is, whatever options are in front of it', () => {
    putFlow(rig, ends);
    nodeDown();
    end('inside', request(ends, { options: new Uint8Array(12).fill(1), flags: FLAG.fin | FLAG.ack }));
    expect(heard()).toMatchObject([{ bytes: 100, tcpFlags: FLAG.fin | FLAG.ack }]);
  });
});

describe('nobody is told', () => {
  const [, ends] = FAMILIES[0];
  const silent = (fields: FlowFields, frame: Uint8Array, fate = 'DROP_NODE_DOWN'): void => {
    putFlow(rig, { ...ends, ...fields });
    expect(riseOf(rig, 'STAT_RESET', () => expect(end('inside', frame)).toBe(fate))).toBe(0n);
    expect(rig.events().filter(({ event }) => event.type === EVENT_RESET)).toEqual([]);
  };

  it('of an RST', () => {
    nodeDown();
    silent({}, request(ends, { flags: FLAG.rst | FLAG.ack }));
  });

  it('of anything but TCP', () => {
    nodeDown();
    const transport = { kind: 'udp', srcPort: 5000, dstPort: 53 } as const;
    silent({ proto: 17, sport: 5000, dport: 53 }, clientFrame({ transport }));
  });

  it('of a chain that moves its flows, also while it has no path that is up', () => {
    nodeDown({ gen: 2 });
    silent({}, request(ends), 'forwarded');
    putChain(rig, 0, CHAIN.two, [], { gen: 3 });
    putPath(rig, 0, PATH.two, { chain: CHAIN.two, nodes: [2], state: abi.PathState.PATH_DOWN });
    silent({ gen: 2 }, request(ends));
  });

  it('beyond the bucket of the source, which is not that of new flows', () => {
    nodeDown();
    rig.control({ puntRate: 1, puntBurst: 1 });
    putFlow(rig, { ...ends, slot: 2, sport: 40_001 });
    putFlow(rig, ends);
    expect(end('inside', request(ends))).toBe('DROP_NODE_DOWN');
    expect(end('inside', request(ends, { srcPort: 40_001 }))).toBe('DROP_NODE_DOWN');
    expect(heard()).toHaveLength(1);
    expect(end('inside', request(ends, { srcPort: 1 }))).toBe('punted');
  });
});

describe('a flow of which nothing but its opening was seen', () => {
  it('is not kept: its SYN, sent again, goes by another path', () => {
    putFlow(rig, { slot: 0, map: 'embryos' });
    nodeDown();
    const [, ends] = FAMILIES[0];
    const fate = sendOne(
      rig,
      'inject',
      injected(abi.InjectOp.INJECT_PORT, { port: PORT.inside }, request(ends, { flags: FLAG.syn })),
    );
    expect(fate.end).toBe('forwarded');
    expect(toHex(fate.data).includes(toHex(Uint8Array.from(NODES[2].remote.split('.').map(Number))))).toBe(
      true,
    );
    expect(rig.events().map(({ event }) => event.type)).toEqual([EVENT_REPIN]);
  });
});
