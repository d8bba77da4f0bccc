// SPDX-License-Identifier: Apache-2.0
// Two gateways with one SNAT address, each with the kernel's own maps, and a real Redis between them; the program is not attached.
import { type Affinity, openAffinity } from '@detour/affinity';
import type { BpfObject } from '@detour/bpf';
import { normaliseTuple, selectionHash, silentLog, type Tuple } from '@detour/core';
import { askRedis, type RedisServer, startRedis, until } from '@detour/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { HeldPacket } from './punt-desk.js';
import { addressBytes } from './row-bytes.js';
import { SnatDesk } from './snat-desk.js';
import { SnatShare } from './snat-share.js';
import { bindingText, SnatTable } from './snat-table.js';
import { type ExampleFlow, flowQuestion, openFlowTable } from './testdata.js';

const SHARED = '198.51.100.1';
const OUT = 2;
const ASKS_PER_S = 20;
const packet: HeldPacket = { frame: new Uint8Array(20), op: 1, port: OUT, node: 0 };

interface Place {
  readonly share: SnatShare;
  readonly table: SnatTable;
  /** Of packets, since it was last asked. */
  readonly ends: readonly string[];
  /** What the flow has outside, once its packets are dealt with. */
  outside(flow?: ExampleFlow): Promise<string>;
  /** What becomes of a packet from outside. */
  back(port: number, from?: { readonly remotePort?: number; readonly proto?: number }): Promise<string>;
}

let redis: RedisServer;
const objects: BpfObject[] = [];
const affinities: Affinity[] = [];

beforeAll(async () => {
  redis = await startRedis();
  objects.push(openFlowTable().object, openFlowTable().object);
});
afterAll(async () => {
  for (const object of objects) object.close();
  await redis?.[Symbol.asyncDispose]();
});

let nowMs = 0;
async function openPlace(object: BpfObject | undefined): Promise<Place> {
  if (object === undefined) throw new Error('no maps');
  for (const name of ['snat_bindings', 'snat_inners'])
    for (const key of [...object.map(name).keys()]) object.map(name).delete(key);
  const affinity = openAffinity({ url: redis.url, log: silentLog });
  affinities.push(affinity);
  await until(() => affinity.connected);
  const ends: string[] = [];
  const table = new SnatTable({ bindings: object.map('snat_bindings'), inners: object.map('snat_inners') });
  const desk = new SnatDesk({
    table,
    addressOf: () => addressBytes(SHARED),
    hasRecord: () => true,
    monoMs: () => nowMs,
    nowNs: () => BigInt(nowMs) * 1_000_000n,
    random: Math.random,
    putBack: () => ends.push('put back'),
    dropHeld: (_packets, why) => ends.push(why),
    onFull: () => {},
    onError: (text) => ends.push(text),
  });
  const share = new SnatShare({
    ...{ desk, table, claims: affinity.claims, monoMs: () => nowMs, asksPerS: ASKS_PER_S },
    sharedAddressOf: (port) => (port === OUT ? addressBytes(SHARED) : null),
    chanceOf: (key) => selectionHash(key, '5-tuple', false, { lo: 1, hi: 2 }),
    putBack: (packets) => ends.push(...packets.map(() => 'put back')),
    dropHeld: (packets, why) => ends.push(...packets.map(() => why)),
    onError: (error) => ends.push(String(error)),
  });
  const settled = async (): Promise<string> => {
    await until(() => ends.length > 0);
    return ends.splice(0).join();
  };
  return {
    ...{ share, table, ends },
    async outside(flow = {}) {
      const { key, norm } = flowQuestion(flow);
      share.take(key, norm === 1, OUT, packet);
      const end = await settled();
      const binding = table.read(key);
      return end === 'put back' && binding !== null ? bindingText(binding) : end;
    },
    async back(port, { remotePort = 80, proto = 6 } = {}) {
      const tuple: Tuple = {
        ...{ vrf: 1, proto, src: addressBytes('203.0.113.9'), dst: addressBytes(SHARED) },
        ...{ sport: proto === 1 ? port : remotePort, dport: port },
      };
      share.takeUnknown(tuple, packet);
      return settled();
    },
  };
}

describe('SnatShare', () => {
  let one: Place;
  let other: Place;
  beforeEach(async () => {
    nowMs = 1_000_000;
    await askRedis(redis.url, 'FLUSHALL');
    [one, other] = [await openPlace(objects[0]), await openPlace(objects[1])];
  });
  afterEach(async () => {
    for (const affinity of affinities.splice(0)) await affinity[Symbol.asyncDispose]();
  });

  it('a flow has the same end outside at whichever gateway its packets leave, of whatever protocol', async () => {
    for (const flow of [
      {},
      { sport: 80 },
      { proto: 17 },
      { proto: 1, sport: 7, dport: 7 },
      { proto: 47 },
      { src: '240.0.0.1' },
    ]) {
      const outer = await one.outside(flow);
      expect(outer.startsWith(SHARED)).toBe(true);
      expect(await other.outside(flow)).toBe(outer);
    }
  });

  it('no two flows have one, wherever they began; what another could not have is the same at both', async () => {
    const first = await one.outside({ src: '10.1.0.10' });
    expect(first).toBe(`${SHARED}:40000`);
    const second = await other.outside({ src: '10.1.0.11' });
    expect(second).not.toBe(first);
    expect(await one.outside({ src: '10.1.0.11' })).toBe(second);
    expect(await one.outside({ src: '10.1.0.12', dst: '203.0.113.10' })).toBe(first); // towards another end
  });

  it('what comes back to the other gateway finds its flow, and goes on; the flow leaves there as before', async () => {
    await one.outside();
    expect(await other.back(40_000)).toBe('put back');
    const use = { vrf: 1, proto: 6, address: 0xc6336401, remote: 0xcb007109, remotePort: 80 };
    expect(other.table.innerOf(use, 40_000)).toEqual({ address: 0x0a01000a, port: 40_000 });
    expect(await other.outside()).toBe(`${SHARED}:40000`);
    const echo = { proto: 1, sport: 7, dport: 7 };
    await one.outside(echo);
    expect(await other.back(7, { proto: 1 })).toBe('put back');
    expect(other.table.read(normaliseTuple(flowQuestion(echo).tuple).key)).toMatchObject({ port: 7 });
    expect(other.share.counts).toMatchObject({ known: 2, unknown: 0 });
  });

  it('what comes back for nobody is dropped as such', async () => {
    await one.outside();
    expect(await other.back(40_001)).toBe('snat_unknown');
    expect(await other.back(40_000, { remotePort: 81 })).toBe('snat_unknown');
    expect(await other.back(40_000, { proto: 17 })).toBe('snat_unknown');
  });

  it('packets that come while Redis is asked wait for one answer, so many and no more', async () => {
    const { key, norm } = flowQuestion();
    for (let i = 0; i < 17; i++) one.share.take(key, norm === 1, OUT, packet);
    expect(one.ends).toEqual(['snat_full']);
    await until(() => one.ends.length === 17);
    expect(one.ends.filter((end) => end === 'put back')).toHaveLength(16);
    expect(one.share.counts.claimed).toBe(1);
  });

  it('without Redis each gateway gives ports by itself, and nobody waits for long', async () => {
    await redis.stop();
    expect(await one.outside()).toBe(`${SHARED}:40000`);
    expect(await other.back(40_000)).toBe('snat_unknown');
    expect([one.share.counts.alone, one.share.counts.claimed]).toEqual([1, 0]);
    await redis.start();
    await until(() => affinities.every(({ connected }) => connected));
  });

  it('ports in use stay their flows’: once a minute, all in one go', async () => {
    await one.outside();
    const [key = ''] = (await askRedis(redis.url, 'KEYS', 'detour:snat:*'))
      .split('\n')
      .filter((line) => line.includes('detour:snat'));
    await askRedis(redis.url, 'EXPIRE', key.trim(), '10');
    const ttl = async () => Number((await askRedis(redis.url, 'TTL', key.trim())).replace(/\D/g, ''));
    await one.share.extend(new AbortController().signal);
    expect(await ttl()).toBeGreaterThan(290);
    await askRedis(redis.url, 'EXPIRE', key.trim(), '10');
    nowMs += 59_000;
    await one.share.extend(new AbortController().signal);
    expect(await ttl()).toBeLessThanOrEqual(10);
    nowMs += 1_000;
    await one.share.extend(new AbortController().signal);
    expect(await ttl()).toBeGreaterThan(290);
  });

  it('what Redis lost, or never heard of, is claimed with the next round', async () => {
    await one.outside();
    await askRedis(redis.url, 'FLUSHALL');
    await one.share.extend(new AbortController().signal);
    expect(await other.outside({ src: '10.1.0.11' })).not.toBe(`${SHARED}:40000`);
    expect(await other.back(40_000)).toBe('put back');
    await askRedis(redis.url, 'FLUSHALL');
    await other.share.extend(new AbortController().signal); // knows both by now
    nowMs += 60_000;
    await one.share.extend(new AbortController().signal);
    expect([one.share.counts.contested, other.share.counts.contested]).toEqual([0, 0]);
  });

  it('asks about so many packets in a second and no more', async () => {
    for (let i = 0; i < ASKS_PER_S; i++) await other.back(50_000 + i);
    expect(other.share.counts).toMatchObject({ unknown: ASKS_PER_S, limited: 0 });
    expect(await other.back(40_000)).toBe('snat_unknown');
    expect(other.share.counts.limited).toBe(1);
    nowMs += 1_000;
    await one.outside();
    expect(await other.back(40_000)).toBe('put back');
  });

  it('addresses of one gateway alone are its own matter', () => {
    const { key, norm } = flowQuestion();
    one.share.take(key, norm === 1, OUT + 1, packet);
    expect(one.table.read(key)).toMatchObject({ port: 40_000, outPort: OUT + 1 });
    expect(one.share.counts.claimed).toBe(0);
  });
});
