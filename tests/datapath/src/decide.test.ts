// SPDX-License-Identifier: Apache-2.0
// Flows that the datapath decides itself: by the rule table, the chain's selection, and records of its own; and those that it leaves to
// tunnel-gw.
import { mapArray } from '@detour/bpf';
import { abi, RuleAction } from '@detour/contracts';
import { hashKeyFromHex, normaliseTuple, selectionHash } from '@detour/core';
import { buildEthernet, buildPacket, ipToKeyBytes } from '@detour/wire';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, fromRemote, NODES, PATH, PORT, VRF } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, clientFrame, flowKey, pathOf, putFlow, readFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig, u32 } from './rig.js';
import { rule, writeRules } from './rig-rules.js';
import { publishAll, putChain } from './world.js';

const rig = openRig();
const LINES = rig.map('rules').maxEntries >>> 1;
const rules = mapArray(rig.map('rules'));
const lent = mapArray(rig.map('free_slots'));
const SECRET = hashKeyFromHex('0001020304050607');
const { FlowAction, EventType, ChainDecides } = abi;
const SLOTS = [PATH.one, PATH.two, PATH.one, PATH.two, PATH.one];

const RULES = [
  rule(1, { destinationPorts: [{ first: 443, last: 443 }], protocols: [6], chain: CHAIN.two }),
  rule(2, { destinationPorts: [{ first: 81, last: 81 }], action: RuleAction.DROP }),
  rule(3, {
    destinationPorts: [{ first: 82, last: 82 }],
    action: RuleAction.UNRESOLVED,
    dropUnresolved: true,
  }),
  rule(4, { destinationPorts: [{ first: 53, last: 53 }], protocols: [17], chain: CHAIN.two }),
  rule(5, { destinationPorts: [{ first: 84, last: 84 }], appliedTo: [PORT.outside], chain: CHAIN.two }),
];

function lend(slots: readonly number[]): void {
  lent.bytes.fill(0);
  lent.view.setBigUint64(abi.freeSlots.offsets.given, BigInt(slots.length), true);
  for (const [i, slot] of slots.entries())
    lent.view.setUint32(abi.freeSlots.offsets.slot + 4 * i, slot, true);
}
const taken = (): bigint => lent.view.getBigUint64(abi.freeSlots.offsets.taken, true);

beforeAll(() => writeRules(rules, LINES, 1, RULES));
beforeEach(() => {
  publishAll(rig);
  for (const bank of [0, 1] as const)
    putChain(rig, bank, CHAIN.two, SLOTS, { decides: ChainDecides.DECIDES_ANY });
  clearFlows(rig);
  for (const key of [...rig.map('sources').keys()]) rig.map('sources').delete(key);
  rig.control({
    rulesHalf: Uint32Array.of(1, 1),
    rulesLines: LINES,
    beginRate: 1_000_000,
    beginBurst: 1_000_000,
    askShare: 0,
  });
  lend([11, 12, 13]);
  rig.events();
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => {
  rules.close();
  lent.close();
  rig[Symbol.dispose]();
});

type Tcp = 'syn' | 'ack' | 'synack';
const FLAGS: Record<Tcp, number> = { syn: 2, ack: 16, synack: 18 };
function tcp(sport: number, dport: number, flags: Tcp = 'syn'): Uint8Array {
  return clientFrame({ transport: { kind: 'tcp', srcPort: sport, dstPort: dport, flags: FLAGS[flags] } });
}
function reply(sport: number, dport: number, flags: Tcp = 'synack'): Uint8Array {
  return clientFrame({
    ...{ src: SERVER.ip4, dst: CLIENT.ip4, srcMac: SERVER.mac, dstMac: macOf('outside') },
    transport: { kind: 'tcp', srcPort: dport, dstPort: sport, flags: FLAGS[flags] },
  });
}
function udp(sport: number, dport: number, back = false): Uint8Array {
  const transport = { kind: 'udp', srcPort: back ? dport : sport, dstPort: back ? sport : dport } as const;
  if (!back) return clientFrame({ transport });
  const ends = { src: SERVER.ip4, dst: CLIENT.ip4, srcMac: SERVER.mac, dstMac: macOf('outside') };
  return clientFrame({ ...ends, transport });
}
function chosen(sport: number, dport: number, proto = 6): number {
  const ends = { src: ipToKeyBytes(CLIENT.ip4), dst: ipToKeyBytes(SERVER.ip4) };
  const { key, norm } = normaliseTuple({ vrf: VRF, ...ends, sport, dport, proto });
  return SLOTS[selectionHash(key, '5-tuple', norm === 1, SECRET) % SLOTS.length] ?? 0;
}
const actionOf = (flow: abi.Flow): number => Number((flow.word >> 24n) & 15n);
const end = (device: 'inside' | 'outside' | 'underlay', frame: Uint8Array) => sendOne(rig, device, frame).end;

describe('a flow that the datapath decides', () => {
  it('goes with its first packet to the node that every gateway would choose, and nobody is told', () => {
    const decided = rig.stat('STAT_DECIDED');
    const paths = new Set<number>();
    for (let sport = 1000; sport < 1032; sport++) {
      expect(end('inside', tcp(sport, 443))).toBe('forwarded');
      const flow = readFlow(rig, flowKey({ sport }).key, 'embryos');
      expect(actionOf(flow)).toBe(FlowAction.FLOW_STEER);
      expect(flow).toMatchObject({ rule: 1, chain: CHAIN.two, slot: 0, fwdPort: PORT.inside, rulesGen: 1 });
      expect(pathOf(flow)).toBe(chosen(sport, 443));
      paths.add(pathOf(flow));
    }
    expect(paths).toEqual(new Set([PATH.one, PATH.two]));
    expect(rig.stat('STAT_DECIDED') - decided).toBe(32n);
    expect(rig.events()).toEqual([]);
    expect(taken()).toBe(0n);
  });

  it('takes a counter row and is told of with its second packet, whichever side sends it', () => {
    for (const [sport, device, second, first] of [
      [2000, 'outside', reply(2000, 443), [1n, 1n]],
      [2001, 'inside', tcp(2001, 443, 'ack'), [2n, 0n]],
    ] as const) {
      const { key } = flowKey({ sport });
      end('inside', tcp(sport, 443));
      const before = taken();
      expect(end(device, second)).toBe('forwarded');
      expect(taken() - before).toBe(1n);
      const flow = readFlow(rig, key, device === 'outside' ? 'flows' : 'embryos');
      expect(flow.slot).toBe(11 + Number(before));
      const counters = abi.flowCounters.decode(
        rig.map('flow_counters').lookup(u32(flow.slot)) ?? new Uint8Array(),
      );
      expect([...counters.packets]).toEqual(first);
      expect(counters.seen & abi.FlowSeen.SEEN_SYN).toBe(abi.FlowSeen.SEEN_SYN);
      const [{ event } = { event: null }, ...more] = rig.events();
      expect(more).toEqual([]);
      expect(event).toMatchObject({
        type: EventType.EVENT_DECIDED,
        oldPath: flow.slot,
        newPath: chosen(sport, 443),
        chain: CHAIN.two,
      });
    }
  });

  it('counts openings that are sent again in its record, and keeps to its path', () => {
    const { key } = flowKey({ sport: 2100 });
    for (let i = 0; i < 3; i++) expect(end('inside', tcp(2100, 443))).toBe('forwarded');
    expect(readFlow(rig, key, 'embryos')).toMatchObject({ slot: 0, out: [{}, { ifindex: 3, gen: 0 }] });
    end('outside', reply(2100, 443));
    const { slot } = readFlow(rig, key);
    const counters = abi.flowCounters.decode(rig.map('flow_counters').lookup(u32(slot)) ?? new Uint8Array());
    expect([...counters.packets]).toEqual([3n, 1n]);
  });

  it('takes no row for what its node returns', () => {
    end('inside', tcp(2200, 443));
    const node = chosen(2200, 443) === PATH.one ? 1 : 2;
    const packet = buildPacket({
      ...{ src: CLIENT.ip4, dst: SERVER.ip4, ttl: 63 },
      transport: { kind: 'tcp', srcPort: 2200, dstPort: 443 },
    });
    const { innerSrc, innerDst } = NODES[node];
    const inner = buildEthernet({ dst: innerSrc, src: innerDst, etherType: 0x0800 }, packet);
    expect(end('underlay', fromRemote(NODES[node], inner))).toBe('forwarded');
    expect(taken()).toBe(0n);
    expect(rig.events()).toEqual([]);
  });

  it('passes uncounted when no row is free, stays embryonic, and takes one as soon as there is', () => {
    lend([]);
    const { key } = flowKey({ sport: 2300 });
    end('inside', tcp(2300, 443));
    const uncounted = rig.stat('STAT_UNCOUNTED');
    expect(end('outside', reply(2300, 443))).toBe('forwarded');
    expect(rig.stat('STAT_UNCOUNTED') - uncounted).toBe(1n);
    expect(readFlow(rig, key, 'embryos').slot).toBe(0);
    lend([21]);
    expect(end('outside', reply(2300, 443, 'ack'))).toBe('forwarded');
    expect(readFlow(rig, key).slot).toBe(21);
  });

  it('is dropped or let through as its rule says', () => {
    expect(end('inside', tcp(2400, 81))).toBe('DROP_RULE');
    expect(end('inside', tcp(2400, 81))).toBe('DROP_RULE');
    expect(end('inside', tcp(2400, 82))).toBe('DROP_UNRESOLVED');
    expect(end('inside', tcp(2400, 83))).toBe('forwarded');
    expect(end('inside', tcp(2400, 84))).toBe('forwarded'); // its rule is applied to another port
    const flow = readFlow(rig, flowKey({ sport: 2400, dport: 84 }).key, 'embryos');
    expect([actionOf(flow), flow.rule, flow.chain]).toEqual([FlowAction.FLOW_ALLOW, 0, 0]);
    expect(rig.events()).toEqual([]);
  });

  it('without a connection is the same flow whichever side is seen first', () => {
    expect(end('outside', udp(2500, 53, true))).toBe('forwarded');
    const flow = readFlow(rig, flowKey({ sport: 2500, dport: 53, proto: 17 }).key, 'embryos');
    expect([flow.rule, pathOf(flow), flow.fwdPort]).toEqual([4, chosen(2500, 53, 17), 0]);
    expect(end('inside', udp(2500, 53))).toBe('forwarded');
    expect(rig.events()).toMatchObject([{ event: { type: EventType.EVENT_DECIDED } }]);
  });

  it('follows other rules in the kernel where these say the same, and is reported where they do not', () => {
    end('inside', tcp(2600, 443));
    end('outside', reply(2600, 443));
    rig.events();
    rig.control({ rulesGen: 2 });
    expect(end('inside', tcp(2600, 443, 'ack'))).toBe('forwarded');
    expect(readFlow(rig, flowKey({ sport: 2600 }).key).rulesGen).toBe(2);
    expect(rig.events()).toEqual([]);
    writeRules(rules, LINES, 2, [
      rule(1, { destinationPorts: [{ first: 443, last: 443 }], action: RuleAction.DROP }),
    ]);
    rig.control({ rulesGen: 3, rulesHalf: Uint32Array.of(2, 2) });
    end('inside', tcp(2600, 443, 'ack'));
    expect(rig.events()).toMatchObject([{ event: { type: EventType.EVENT_REVALIDATE } }]);
  });
});

describe('what is left to tunnel-gw', () => {
  const asked = (device: 'inside' | 'outside', frame: Uint8Array): abi.Event | undefined => {
    expect(end(device, frame)).toBe('punted');
    return rig.events()[0]?.event;
  };

  it('a connection in its middle', () => {
    expect(asked('inside', tcp(3000, 443, 'ack'))).toMatchObject({
      type: EventType.EVENT_PUNT_MISS,
      first: 1,
    });
    expect(asked('outside', reply(3001, 443))).toMatchObject({ type: EventType.EVENT_PUNT_MISS });
  });

  it('flows without a beginning, of a chain whose answer could differ elsewhere; SYNs are not among them', () => {
    putChain(rig, 0, CHAIN.two, SLOTS, { decides: ChainDecides.DECIDES_OPENING });
    expect(asked('inside', udp(3100, 53))).toBeDefined();
    expect(end('inside', tcp(3100, 443))).toBe('forwarded');
  });

  it('chains that need what only user space knows, a share for traces, and all when there are no rules or no rate', () => {
    putChain(rig, 0, CHAIN.two, SLOTS, { decides: ChainDecides.DECIDES_NONE });
    expect(asked('inside', tcp(3200, 443))).toMatchObject({ first: 1 });
    putChain(rig, 0, CHAIN.two, SLOTS, { decides: ChainDecides.DECIDES_ANY });
    rig.control({ askShare: 65_536 });
    expect(asked('inside', tcp(3201, 443))).toMatchObject({
      first: abi.EventFirst.EVENT_FIRST | abi.EventFirst.EVENT_SAMPLED,
    });
    rig.control({ askShare: 0, rulesHalf: Uint32Array.of(0, 0) });
    expect(asked('inside', tcp(3202, 443))).toMatchObject({ first: 1 });
    rig.control({ rulesHalf: Uint32Array.of(1, 1), beginRate: 0 });
    expect(asked('inside', tcp(3203, 443))).toMatchObject({ first: 1 });
  });

  it('a packet of a flow that waits for its decision already', () => {
    rig.control({ beginRate: 0 });
    asked('inside', tcp(3300, 443));
    rig.control({ beginRate: 1000 });
    expect(asked('inside', tcp(3300, 443))).toMatchObject({ first: 0 });
  });
});

describe('a SYN that is sent again', () => {
  const several = (): void => {
    for (const bank of [0, 1] as const)
      putChain(rig, bank, CHAIN.two, SLOTS, { decides: ChainDecides.DECIDES_OPENING });
  };
  /** The record as if its SYN had come so many milliseconds earlier. */
  const age = (sport: number, ms: number, dport = 443): void => {
    const { key } = flowKey({ sport, dport });
    const flow = readFlow(rig, key, 'embryos');
    const older = { ...flow, createdNs: flow.createdNs - BigInt(ms) * 1_000_000n };
    rig.put('embryos', key, abi.flow.encode(older));
  };
  const again = (sport: number): string => end('inside', tcp(sport, 443));

  it('is asked about when there are several gateways, once: another one may have had its answer', () => {
    several();
    expect(again(3400)).toBe('forwarded');
    expect(rig.events()).toEqual([]);
    age(3400, 300);
    expect(again(3400)).toBe('punted');
    expect(rig.events()).toMatchObject([
      {
        event: {
          type: EventType.EVENT_PUNT_MISS,
          first: abi.EventFirst.EVENT_FIRST | abi.EventFirst.EVENT_AGAIN,
          op: abi.InjectOp.INJECT_PORT,
        },
      },
    ]);
    expect(actionOf(readFlow(rig, flowKey({ sport: 3400 }).key, 'embryos'))).toBe(FlowAction.FLOW_PENDING);
    expect(again(3400)).toBe('punted'); // waits with the first
    expect(rig.events()).toMatchObject([{ event: { first: 0 } }]);
  });

  it('goes as the first did within a quarter of a second, which no sender waits for an answer', () => {
    several();
    again(3401);
    age(3401, 200);
    expect(again(3401)).toBe('forwarded');
    expect(readFlow(rig, flowKey({ sport: 3401 }).key, 'embryos').out[1]?.ifindex).toBe(2); // openings seen
    expect(rig.events()).toEqual([]);
  });

  it('nor is one that has a row of counters, that no path was chosen for, or that nobody else could know', () => {
    several();
    again(3402);
    expect(end('outside', reply(3402, 443))).toBe('forwarded'); // answered
    rig.events();
    expect(again(3402)).toBe('forwarded');
    expect(end('inside', tcp(3403, 83))).toBe('forwarded'); // no rule
    age(3403, 10_000, 83);
    expect(end('inside', tcp(3403, 83))).toBe('forwarded');
    putChain(rig, 0, CHAIN.two, SLOTS, { decides: ChainDecides.DECIDES_ANY });
    again(3404);
    age(3404, 10_000);
    expect(again(3404)).toBe('forwarded');
    expect(rig.events()).toEqual([]);
  });

  it('goes as the first did while tunnel-gw has more than half of the ring to read', () => {
    several();
    for (let i = 0; i < 4_500; i++) {
      const transport = { kind: 'tcp', srcPort: 1024, dstPort: 443, flags: FLAGS.ack } as const;
      const src = `10.2.${i >> 8}.${i & 255}`;
      rig.send('inside', clientFrame({ src, transport, payload: new Uint8Array(1_000) }));
    }
    putFlow(rig, { sport: 3405, slot: 0, map: 'embryos' }); // begun at no time
    expect(again(3405)).toBe('forwarded');
    expect(rig.events().length).toBeGreaterThan(4_000);
    expect(again(3405)).toBe('punted');
    rig.events();
  });
});

describe('a flood of openings', () => {
  it('is bounded for each source address, and no other suffers', () => {
    rig.control({ beginRate: 1, beginBurst: 3 });
    const ends = Array.from({ length: 5 }, (_, i) => end('inside', tcp(4000 + i, 443)));
    expect(ends).toEqual(['forwarded', 'forwarded', 'forwarded', 'DROP_SOURCE_LIMIT', 'DROP_SOURCE_LIMIT']);
    const other = clientFrame({
      src: '10.1.7.7',
      transport: { kind: 'tcp', srcPort: 4000, dstPort: 443, flags: 2 },
    });
    expect(end('inside', other)).toBe('forwarded');
  });

  it('pushes out nothing but openings: no established flow, no counter row, no event', () => {
    const established = putFlow(rig, { sport: 4100, slot: 5 });
    for (let i = 0; i < 3000; i++) {
      const src = `10.1.${(i >> 8) + 1}.${i & 255}`;
      rig.send(
        'inside',
        clientFrame({ src, transport: { kind: 'tcp', srcPort: 1024 + i, dstPort: 443, flags: 2 } }),
      );
    }
    expect(readFlow(rig, established).slot).toBe(5);
    expect(end('inside', tcp(4100, 443, 'ack'))).toBe('forwarded');
    expect(taken()).toBe(0n);
    expect(rig.events()).toEqual([]);
    expect([...rig.map('embryos').keys()].length).toBeLessThanOrEqual(rig.map('embryos').maxEntries);
  });
});
