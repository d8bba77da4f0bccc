// SPDX-License-Identifier: Apache-2.0
// Bindings in the kernel's own maps, as the datapath reads them; the program is not attached.
import type { BpfObject } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { flowKeyText } from '@detour/core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { HeldPacket } from './punt-desk.js';
import { addressBytes } from './row-bytes.js';
import { SNAT_REST_MS, SnatDesk } from './snat-desk.js';
import { bindingText, SnatTable } from './snat-table.js';
import { type ExampleFlow, flowQuestion, openFlowTable } from './testdata.js';

const S_NS = 1_000_000_000n;
const signal = new AbortController().signal;
const packet: HeldPacket = { frame: new Uint8Array(20), op: 1, port: 1, node: 0 };

let object: BpfObject;
let table: SnatTable;
let nowNs = 0n;
let addresses: ReadonlyMap<number, string> | null;
let records: Set<string>;
let seen: string[];

beforeAll(() => {
  ({ object } = openFlowTable());
  table = new SnatTable({ bindings: object.map('snat_bindings'), inners: object.map('snat_inners') });
});
afterAll(() => object.close());
beforeEach(() => {
  for (const name of ['snat_bindings', 'snat_inners'])
    for (const key of [...object.map(name).keys()]) object.map(name).delete(key);
  nowNs = 1_000n * S_NS;
  addresses = new Map([
    [2, '198.51.100.1'],
    [3, '198.51.100.2'],
    [4, '198.51.100.1'],
  ]);
  records = new Set();
  seen = [];
});

function openDesk(of: SnatTable = table): SnatDesk {
  return new SnatDesk({
    table: of,
    addressOf: (port) => {
      const text = addresses?.get(port);
      if (addresses === null) return undefined;
      return text === undefined ? null : addressBytes(text);
    },
    hasRecord: (key) => records.has(flowKeyText(key)),
    monoMs: () => Number(nowNs / 1_000_000n),
    nowNs: () => nowNs,
    random: () => 0.5,
    putBack: () => seen.push('put back'),
    dropHeld: (_packets, why) => seen.push(why),
    onFull: (text) => seen.push(text === null ? 'no longer full' : 'full'),
    onError: (text) => seen.push(text),
  });
}

/** Sends a flow's packet to the desk, and says what it has outside afterwards. */
function outside(desk: SnatDesk, flow: ExampleFlow = {}, port = 2): string {
  const { key, norm } = flowQuestion(flow);
  desk.take(key, norm === 1, port, packet);
  const binding = table.read(key);
  return binding === null ? 'none' : bindingText(binding);
}

/** From there a packet comes back: where to. */
function inside(outer: string, { remote = '203.0.113.9', remotePort = 80, proto = 6 } = {}): string {
  const [address = '', port = '0'] = outer.split(':');
  const number = (text: string) => new DataView(addressBytes(text).buffer).getUint32(12);
  const inner = table.innerOf(
    { vrf: 1, proto, address: number(address), remote: number(remote), remotePort },
    Number(port),
  );
  return inner === null ? 'nobody' : bindingText(inner);
}

describe('SnatDesk', () => {
  it('gives each flow an outside of its own towards a remote end, and the way back', () => {
    const desk = openDesk();
    const one = outside(desk, { src: '10.1.0.10' });
    const two = outside(desk, { src: '10.1.0.11' });
    expect(one).toBe('198.51.100.1:40000');
    expect(two).not.toBe(one);
    expect([inside(one), inside(two)]).toEqual(['10.1.0.10:40000', '10.1.0.11:40000']);
    expect(outside(desk, { src: '10.1.0.12', dst: '203.0.113.10' })).toBe('198.51.100.1:40000');
    expect(inside(one, { remote: '203.0.113.10' })).toBe('10.1.0.12:40000');
    expect(inside(one, { remotePort: 81 })).toBe('nobody');
    expect(seen).toEqual(['put back', 'put back', 'put back']);
  });

  it('which end is inside does not depend on how addresses sort', () => {
    const desk = openDesk();
    const outer = outside(desk, { src: '240.0.0.1', dst: '203.0.113.9' });
    expect([outer, inside(outer)]).toEqual(['198.51.100.1:40000', '240.0.0.1:40000']);
  });

  it('an ICMP echo has its identifier translated, whatever the other end', () => {
    const desk = openDesk();
    const echo = { proto: 1, sport: 7, dport: 7 };
    const outer = [
      outside(desk, { ...echo, src: '10.1.0.10' }),
      outside(desk, { ...echo, src: '10.1.0.11' }),
    ];
    expect(outer[0]).toBe('198.51.100.1:7');
    expect(outer[1]).not.toBe(outer[0]);
    expect(outer.map((text) => inside(text, { proto: 1, remotePort: 0 }))).toEqual([
      '10.1.0.10:7',
      '10.1.0.11:7',
    ]);
  });

  it('packets of one flow that waited at once have one binding', () => {
    const desk = openDesk();
    expect([outside(desk), outside(desk), desk.inUse]).toEqual([
      '198.51.100.1:40000',
      '198.51.100.1:40000',
      1,
    ]);
  });

  it('by another port it gets that one’s address, by one of the same address it keeps what it has', () => {
    const desk = openDesk();
    const first = outside(desk);
    expect(outside(desk, {}, 4)).toBe(first);
    expect(table.read(flowQuestion().key)?.outPort).toBe(4);
    expect(outside(desk, {}, 3)).toBe('198.51.100.2:40000');
    expect([inside(first), desk.inUse]).toEqual(['nobody', 1]);
  });

  it('says so when no port is free towards an end, drops, and says when that is over', async () => {
    const desk = openDesk();
    const gre = { proto: 47, sport: 0, dport: 0 };
    expect(outside(desk, { ...gre, src: '10.1.0.10' })).toBe('198.51.100.1');
    expect(outside(desk, { ...gre, src: '10.1.0.11' })).toBe('none');
    expect(outside(desk, { ...gre, src: '10.1.0.12' })).toBe('none');
    expect(seen).toEqual(['put back', 'full', 'snat_full', 'snat_full']);
    await desk.sweep(signal);
    expect(seen).toHaveLength(4);
    await desk.sweep(signal);
    expect(seen.at(-1)).toBe('no longer full');
  });

  it('a binding ends without record and packets, then its port rests', async () => {
    const desk = openDesk();
    const outer = outside(desk);
    records.add(flowKeyText(flowQuestion().key));
    nowNs += 3_600n * S_NS;
    await desk.sweep(signal);
    expect(inside(outer)).toBe('10.1.0.10:40000');
    records.clear();
    await desk.sweep(signal);
    expect([inside(outer), desk.inUse]).toEqual(['nobody', 0]);
    const other = { src: '10.1.0.99' };
    expect(outside(desk, other)).not.toBe(outer);
    nowNs += BigInt(SNAT_REST_MS) * 1_000_000n;
    expect(outside(desk, { ...other, sport: 40_000, src: '10.1.0.98' })).toBe(outer);
  });

  it('one that sends stays without a record, and one of another scope is that record’s', async () => {
    const desk = openDesk();
    const { key, norm } = flowQuestion();
    desk.take({ ...key, scope: 3 }, norm === 1, 2, packet);
    nowNs += 119n * S_NS;
    await desk.sweep(signal);
    expect(table.read(key)).not.toBeNull();
    records.add(flowKeyText({ ...key, scope: 3 }));
    nowNs += 10n * S_NS;
    await desk.sweep(signal);
    expect(table.read(key)).not.toBeNull();
  });

  it('ends with its address', async () => {
    const desk = openDesk();
    const outer = outside(desk);
    addresses = new Map([[2, '198.51.100.7']]);
    await desk.sweep(signal);
    expect([inside(outer), outside(desk)]).toEqual(['nobody', '198.51.100.7:40000']);
  });

  it('survives its desk: another one adopts what the maps hold, and gives none of it away', async () => {
    const outer = outside(openDesk());
    for (const key of [...object.map('snat_inners').keys()]) object.map('snat_inners').delete(key);
    const desk = openDesk();
    await desk.adopt();
    expect([inside(outer), desk.inUse]).toEqual(['10.1.0.10:40000', 1]);
    expect(outside(desk, { src: '10.1.0.11' })).not.toBe(outer);
    addresses = null; // no version is in force yet
    nowNs += S_NS;
    await desk.sweep(signal);
    expect(inside(outer)).toBe('10.1.0.10:40000');
    seen = [];
    expect([outside(desk, { src: '10.1.0.13' }), ...seen]).toEqual(['none', 'decision_timeout']);
  });

  it('rows are those of the ABI', () => {
    outside(openDesk());
    expect([object.map('snat_bindings').valueSize, object.map('snat_inners').keySize]).toEqual([
      abi.snatBinding.size,
      abi.snatKey.size,
    ]);
  });
});
