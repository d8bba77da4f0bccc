// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket, ipToKeyBytes, parseFrame, toHex } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BRANCH_END, fromRemote, NODES, PORT, VRF } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clientFrame, flowKey, putFlow, readFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER, SILENT } from './network.js';
import { openRig } from './rig.js';
import { startAfresh } from './world.js';

const rig = openRig();
beforeEach(() => startAfresh(rig));
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const { EventType, FlowAction, InjectOp } = abi;
const QUEUE = abi.DetourLimit.DT_PENDING_QUEUE;
const end = (device: Parameters<typeof sendOne>[1], frame: Uint8Array): string =>
  sendOne(rig, device, frame).end;

function innerOf(node: 1 | 2, ends: { src: string; dst: string }, ttl = 64): Uint8Array {
  const packet = buildPacket({ ...ends, ttl, transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443 } });
  const etherType = ends.src.includes(':') ? 0x86dd : 0x0800;
  return buildEthernet({ dst: NODES[node].innerSrc, src: NODES[node].innerDst, etherType }, packet);
}

describe('a packet of an unknown flow', () => {
  it.each([
    [CLIENT.ip4, SERVER.ip4],
    [CLIENT.ip6, SERVER.ip6],
  ])('is handed to tunnel-gw as it was, with its key (%s)', (src, dst) => {
    const frame = clientFrame({ src, dst });
    const lookups = rig.count('port_counters', PORT.inside, 6);
    const fate = sendOne(rig, 'inside', frame);
    expect(fate).toMatchObject({ end: 'punted', verdict: 'drop' });
    const [held, ...more] = rig.events();
    expect(more).toEqual([]);
    const { key, norm } = flowKey({ src, dst });
    expect(held?.event).toMatchObject({
      type: EventType.EVENT_PUNT_MISS,
      norm,
      op: InjectOp.INJECT_PORT,
      tcpFlags: 2,
      first: 1,
      port: PORT.inside,
      node: 0,
    });
    expect(toHex(abi.flowKey.encode(held?.event.key ?? fail()))).toBe(toHex(key));
    expect(toHex(held?.packet ?? fail())).toBe(toHex(frame));
    expect(rig.count('port_counters', PORT.inside, 6) - lookups).toBe(1n);
    const pending = readFlow(rig, key, 'embryos');
    expect([Number((pending.word >> 24n) & 15n), pending.slot, pending.fwdPort]).toEqual([
      FlowAction.FLOW_PENDING,
      1,
      PORT.inside,
    ]);
  });

  it('of a branch is handed over without its tunnel', () => {
    const frame = innerOf(1, { src: '10.7.0.5', dst: SERVER.ip4 });
    expect(end('underlay', fromRemote(BRANCH_END, frame))).toBe('punted');
    const [held] = rig.events();
    expect(held?.event).toMatchObject({ port: PORT.branch, op: InjectOp.INJECT_PORT });
    expect(toHex(held?.packet ?? fail())).toBe(toHex(frame));
  });

  it('is one of at most sixteen that wait, in either direction; the others are dropped', () => {
    const back = clientFrame({
      src: SERVER.ip4,
      dst: CLIENT.ip4,
      dstMac: macOf('outside'),
      transport: { kind: 'tcp', srcPort: 443, dstPort: 40_000 },
    });
    const fates = Array.from({ length: QUEUE + 2 }, (_, i) =>
      i % 2 === 0 ? end('inside', clientFrame()) : end('outside', back),
    );
    expect(fates).toEqual([...new Array<string>(QUEUE).fill('punted'), 'DROP_PUNT_FULL', 'DROP_PUNT_FULL']);
    expect(rig.events().map((held) => held.event.first)).toEqual([
      1,
      ...new Array<number>(QUEUE - 1).fill(0),
    ]);
  });

  it('starts a new wait when the last one is a second old', () => {
    const { key } = flowKey({});
    for (let i = 0; i < QUEUE; i++) end('inside', clientFrame());
    expect(end('inside', clientFrame())).toBe('DROP_PUNT_FULL');
    const pending = readFlow(rig, key, 'embryos');
    rig.put('embryos', key, abi.flow.encode({ ...pending, createdNs: pending.createdNs - 1_000_000_001n }));
    rig.events();
    expect(end('inside', clientFrame())).toBe('punted');
    expect(rig.events()[0]?.event.first).toBe(1);
  });

  it('counts against its source, and only against that', () => {
    rig.control({ puntRate: 1, puntBurst: 3 });
    const from = (src: string, srcPort: number): string =>
      end('inside', clientFrame({ src, transport: { kind: 'tcp', srcPort, dstPort: 443 } }));
    expect([1, 2, 3, 4, 5].map((port) => from(CLIENT.ip4, port))).toEqual([
      'punted',
      'punted',
      'punted',
      'DROP_PUNT_FULL',
      'DROP_PUNT_FULL',
    ]);
    expect(from('10.1.0.6', 1)).toBe('punted');
    const key = abi.sourceKey.encode({
      addr: ipToKeyBytes(CLIENT.ip4),
      vrf: VRF,
      purpose: abi.SourcePurpose.PUNT_DECISION,
    });
    const bucket = abi.puntBucket.decode(rig.map('sources').lookup(key) ?? fail());
    rig.put('sources', key, abi.puntBucket.encode({ ...bucket, atNs: bucket.atNs - 2_000_000_000n }));
    expect([6, 7, 8].map((port) => from(CLIENT.ip4, port))).toEqual(['punted', 'punted', 'DROP_PUNT_FULL']);
  });

  it('is dropped with a reason, and the lost event counted, when the ring is full', () => {
    rig.control({ puntRate: 1_000_000, puntBurst: 1_000_000 });
    const big = (srcPort: number): Uint8Array =>
      clientFrame({ transport: { kind: 'tcp', srcPort, dstPort: 443 }, payload: new Uint8Array(3000) });
    const lost = rig.stat('STAT_EVENT_LOST');
    let sent = 0;
    while (
      rig.send('inside', big(1000 + sent)).verdict === 'drop' &&
      rig.stat('STAT_EVENT_LOST') === lost &&
      sent < 5000
    )
      sent++;
    expect(sent).toBeGreaterThan(2000);
    expect(sent).toBeLessThan(5000);
    expect(end('inside', big(900))).toBe('DROP_PUNT_FULL');
    const key = putFlow(rig);
    let gen = 1;
    do {
      rig.control({ rulesGen: ++gen });
      expect(end('inside', clientFrame())).toBe('forwarded');
    } while (readFlow(rig, key).rulesGen === gen && gen < 100);
    expect(readFlow(rig, key).rulesGen).toBe(gen - 1);
    rig.events();
    expect(end('inside', clientFrame())).toBe('forwarded');
    expect(readFlow(rig, key).rulesGen).toBe(gen);
    expect(rig.events().map((held) => held.event.type)).toEqual([EventType.EVENT_REVALIDATE]);
  });

  it('is routed without a record where the port does not classify', () => {
    const value = {
      number: PORT.plain,
      vrf: VRF,
      table: rig.tableRow(100),
      kind: abi.PortKind.PORT_UPLINK,
      flags: 0,
      hop: 0,
      vtiIfindex: 0,
      mac: new Uint8Array(6),
      node: 0,
    };
    rig.put(
      'ports',
      abi.portKey.encode({ ifindex: rig.ifindex.stranger, vlan: 0, inner: 0, bank: 0 }),
      abi.port.encode(value),
    );
    const parsed = parseFrame(sendOne(rig, 'stranger', clientFrame()).data);
    expect(parsed.ok && parsed.value.ethernet.dst).toBe(SERVER.mac);
    expect(rig.events()).toEqual([]);
    expect(rig.map('embryos').getNextKey()).toBeUndefined();
    expect(rig.count('port_counters', PORT.plain, 6)).toBe(0n);
    putFlow(rig, { fwdPort: PORT.plain });
    const steered = parseFrame(sendOne(rig, 'stranger', clientFrame()).data);
    expect(steered.ok && steered.value.ipv4?.dst).toBe(NODES[1].remote);
    rig
      .map('ports')
      .delete(abi.portKey.encode({ ifindex: rig.ifindex.stranger, vlan: 0, inner: 0, bank: 0 }));
  });
});

describe('a next hop without a MAC', () => {
  it.each([
    [CLIENT.ip4, SILENT.ip4, SILENT.via4],
    [CLIENT.ip6, SILENT.ip6, SILENT.via6],
  ])('holds the packet, as it came in (%s)', (src, dst, via) => {
    putFlow(rig, { src, dst, action: FlowAction.FLOW_ALLOW, slot: 55 });
    const frame = clientFrame({ src, dst });
    const counted = rig.count('flow_counters', 55, 0);
    expect(end('inside', frame)).toBe('punted');
    const [held] = rig.events();
    expect(held?.event).toMatchObject({
      type: EventType.EVENT_PUNT_NEIGH,
      op: InjectOp.INJECT_PORT,
      port: PORT.inside,
      node: 0,
      outIfindex: rig.ifindex.outside,
    });
    expect(toHex(held?.event.nextHop ?? fail())).toBe(toHex(ipToKeyBytes(via)));
    expect(toHex(held?.packet ?? fail())).toBe(toHex(frame));
    expect(rig.count('flow_counters', 55, 0)).toBe(counted);
  });

  it('holds a packet that a node returned as its inner frame, to be put back as returned', () => {
    putFlow(rig, { dst: SILENT.ip4 });
    const inner = innerOf(1, { src: CLIENT.ip4, dst: SILENT.ip4 });
    expect(end('underlay', fromRemote(NODES[1], inner))).toBe('punted');
    const [held] = rig.events();
    expect(held?.event).toMatchObject({
      type: EventType.EVENT_PUNT_NEIGH,
      op: InjectOp.INJECT_RETURN,
      node: 1,
    });
    expect(toHex(held?.packet ?? fail())).toBe(toHex(inner));
  });
});

function fail(): never {
  throw new Error('nothing was there');
}
