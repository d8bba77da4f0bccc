// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import type { Tuple } from '@detour/core';
import { describe, expect, it } from 'vitest';
import type { FlowQuestion } from './decision.js';
import { type EventDeskOptions, handleEvent } from './event-desk.js';
import type { HeldPacket } from './punt-desk.js';
import type { LostSegment } from './reset-desk.js';
import { addressBytes } from './row-bytes.js';
import { flowQuestion } from './testdata.js';

const { EventType } = abi;

/** What the desks are given by one record of the ring, which is overwritten afterwards, as the ring's memory is. */
function handled(change: Partial<abi.Event>, packet = new Uint8Array(0), question = flowQuestion()) {
  const seen: unknown[] = [];
  const options = {
    punts: {
      take: (id: string, asked: FlowQuestion, held: HeldPacket, first: boolean) =>
        seen.push({ id, asked, held, first }),
    },
    neighbours: {
      take: (device: string, address: string, held: HeldPacket) => seen.push({ device, address, held }),
    },
    fragments: {
      take: (id: string, held: HeldPacket) => seen.push({ id, held }),
      settle: (id: string) => seen.push({ settled: id }),
    },
    tooBig: { take: (held: HeldPacket, fits: number) => seen.push({ held, fits }) },
    snatShare: {
      takeUnknown: (tuple: Tuple, held: HeldPacket) => seen.push({ tuple, held }),
      take: (key: abi.FlowKey, innerIsB: boolean, port: number, held: HeldPacket) =>
        seen.push({ key, innerIsB, port, held }),
    },
    resets: { take: (lost: LostSegment) => seen.push({ lost }) },
    outerErrors: { take: (frame: Uint8Array) => seen.push({ outer: frame }) },
    deviceName: (ifindex: number) => (ifindex === 3 ? 'eth1' : undefined),
    armOf: (hop: number) => (hop === 4_097 ? { device: 'arm-svm-b', nextHop: '20.20.20.2' } : undefined),
    dropHeld: (packets: readonly HeldPacket[], reason: number) =>
      seen.push({ dropped: packets.length, reason }),
    onRepin: (repin: unknown) => seen.push(repin),
    onRevalidate: (asked: FlowQuestion, key: abi.FlowKey) => seen.push({ asked, key }),
    onHopNotReady: (node: number) => seen.push({ node }),
  } as unknown as EventDeskOptions; // the desks' other members are not an event's matter
  const event: abi.Event = {
    type: 0,
    packetLen: packet.length,
    atNs: 1n,
    key: question.key,
    norm: question.norm,
    op: abi.InjectOp.INJECT_PORT,
    tcpFlags: 0x02,
    first: 1,
    port: 1,
    node: 0,
    oldPath: 0,
    newPath: 0,
    chain: 0,
    pinGen: 0,
    outIfindex: 0,
    nextHop: new Uint8Array(16),
    ...change,
  };
  const memory = new Uint8Array(64 + abi.event.size + packet.length + 8);
  memory.set(abi.event.encode(event), 64);
  memory.set(packet, 64 + abi.event.size);
  handleEvent(memory.subarray(64, 64 + abi.event.size + packet.length), options);
  memory.fill(0xee);
  return seen;
}

describe('handleEvent', () => {
  it('a miss: the question as the packet was seen, and the packet, copied out of the ring', () => {
    const question = flowQuestion({ port: 1 });
    const [seen] = handled({ type: EventType.EVENT_PUNT_MISS }, Uint8Array.of(1, 2, 3), question);
    expect(seen).toMatchObject({
      asked: { tuple: question.tuple, norm: question.norm, port: 1, syn: true },
      held: { frame: Buffer.of(1, 2, 3), op: abi.InjectOp.INJECT_PORT, port: 1, node: 0 },
      first: true,
    });
  });

  it('a packet without its binding: the flow, which end is inside, the port by which it leaves', () => {
    const question = flowQuestion();
    for (const norm of [0, 1]) {
      const change = {
        type: EventType.EVENT_PUNT_SNAT,
        oldPath: 2,
        node: 5,
        op: abi.InjectOp.INJECT_RETURN,
        norm,
      };
      expect(handled(change, Uint8Array.of(4), question)).toMatchObject([
        { key: question.key, innerIsB: norm === 1, port: 2, held: { frame: Buffer.of(4), node: 5 } },
      ]);
    }
  });

  it('only a SYN without ACK begins a connection', () => {
    const syn = (tcpFlags: number, proto = 6) => {
      const [seen] = handled(
        { type: EventType.EVENT_PUNT_MISS, tcpFlags },
        new Uint8Array(1),
        flowQuestion({ proto }),
      );
      return (seen as { asked: FlowQuestion }).asked.syn;
    };
    expect([syn(0x02), syn(0x12), syn(0x10), syn(0x02, 17)]).toEqual([true, false, false, false]);
  });

  it('packets of one record have one id, in either direction; another scope has another', () => {
    const id = (change: Partial<abi.Event>, question = flowQuestion()) =>
      (
        handled({ type: EventType.EVENT_PUNT_MISS, ...change }, new Uint8Array(1), question)[0] as {
          id: string;
        }
      ).id;
    const { key, norm } = flowQuestion();
    expect(id({ norm: 1 - norm })).toBe(id({}));
    expect(id({ key: { ...key, scope: 2 } })).not.toBe(id({}));
    expect(id({}, flowQuestion({ sport: 1 }))).not.toBe(id({}));
  });

  it('a missing neighbour: by device and address; unknown devices end as arp_fail', () => {
    const nextHop = addressBytes('198.51.100.2');
    const [seen] = handled({ type: EventType.EVENT_PUNT_NEIGH, outIfindex: 3, nextHop }, Uint8Array.of(9));
    expect(seen).toMatchObject({
      device: 'eth1',
      address: '198.51.100.2',
      held: { frame: Buffer.of(9) },
    });
    expect(handled({ type: EventType.EVENT_PUNT_NEIGH, outIfindex: 4, nextHop }, Uint8Array.of(9))).toEqual([
      { dropped: 1, reason: abi.DropReason.DROP_ARP_FAIL },
    ]);
  });

  it('holds a packet for the next hop of an arm, known by its hop row', () => {
    const punt = { type: EventType.EVENT_PUNT_NEIGH, oldPath: 4_097 };
    expect(handled(punt, Uint8Array.of(9))).toMatchObject([{ device: 'arm-svm-b', address: '20.20.20.2' }]);
    const gone = { ...punt, oldPath: 7, outIfindex: 3 };
    expect(handled(gone, Uint8Array.of(9))).toEqual([{ dropped: 1, reason: abi.DropReason.DROP_ARP_FAIL }]);
  });

  it('tells of re-pins, of changed rules with the record they concern, and of hops that are not ready', () => {
    const question = flowQuestion();
    const key = { ...question.key, scope: 3 };
    expect(handled({ type: EventType.EVENT_REPIN, key, oldPath: 1, newPath: 2, chain: 5 })).toMatchObject([
      { key, oldPath: 1, newPath: 2, chain: 5 },
    ]);
    expect(handled({ type: EventType.EVENT_REVALIDATE, key })).toMatchObject([
      { key, asked: { key, tuple: question.tuple } },
    ]);
    expect(handled({ type: EventType.EVENT_HOP_NEIGH, node: 8 })).toEqual([{ node: 8 }]);
    expect(handled({ type: 99 })).toEqual([]);
  });

  it('a packet that is too big: the packet, and what fits', () => {
    const [seen] = handled({ type: EventType.EVENT_TOO_BIG, oldPath: 1450, port: 4 }, Uint8Array.of(1, 2));
    expect(seen).toEqual({
      held: { frame: Buffer.of(1, 2), op: abi.InjectOp.INJECT_PORT, port: 4, node: 0 },
      fits: 1450,
    });
  });

  it.each([true, false])('a segment whose node is down, the first of its connection: %s', (first) => {
    const question = flowQuestion({ src: '10.1.0.10', dst: '203.0.113.9', sport: 40_000, dport: 80 });
    const fields = { oldPath: 0xfffffff0, newPath: 7, outIfindex: 100, port: 4, tcpFlags: 0x18 };
    const [seen] = handled(
      { type: EventType.EVENT_RESET, ...fields, first: first ? 1 : 0 },
      undefined,
      question,
    );
    expect(seen).toEqual({
      lost: {
        ...{ src: '10.1.0.10', dst: '203.0.113.9', srcPort: 40_000, dstPort: 80 },
        ...{ seq: 0xfffffff0, ack: 7, flags: 0x18, dataBytes: 100, port: 4, first },
      },
    });
  });

  it('fragments of one datagram, and its first: by one name, and by another for another datagram', () => {
    const question = flowQuestion();
    const other = { ...question, key: { ...question.key, vrf: 9 } };
    const name = (change: Partial<abi.Event>, asked = question): string => {
      const [seen] = handled(
        { type: EventType.EVENT_FRAGMENT, oldPath: 7, ...change },
        Uint8Array.of(1),
        asked,
      );
      const { id, settled } = seen as { id?: string; settled?: string };
      return id ?? settled ?? '';
    };
    expect(name({ port: 2, norm: 1 })).toBe(name({}));
    expect(name({ type: EventType.EVENT_FRAGMENT_FIRST })).toBe(name({}));
    expect(name({ oldPath: 8 })).not.toBe(name({}));
    expect(name({}, other)).not.toBe(name({}));
  });

  it('an ICMP error to the underlay address: its frame', () => {
    const [seen] = handled({ type: EventType.EVENT_OUTER_ERROR }, Uint8Array.of(5, 6));
    expect(seen).toEqual({ outer: Buffer.of(5, 6) });
  });
});
