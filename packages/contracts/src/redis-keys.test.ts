// SPDX-License-Identifier: Apache-2.0
import { normaliseTuple, parseAddress, reverseTuple } from '@detour/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeFlowRecord,
  decodeSnatHolder,
  encodeFlowRecord,
  encodeSnatHolder,
  flowRecordKey,
  snatPortKey,
} from './redis-keys.js';
import { parseStateKey, stateKey } from './state-keys.js';

describe('flow records', () => {
  it('survive text and back; garbage is no record', () => {
    fc.assert(
      fc.property(
        fc.nat(999_999),
        fc.nat(8_388_607),
        fc.nat(63),
        fc.boolean(),
        fc.constantFrom({}, { programmed: 'allow' as const }, { programmed: 'drop' as const }),
        (gen, path, chain, initiatorIsB, said) => {
          const record = { gen, path, chain, initiatorIsB, ...said };
          expect(decodeFlowRecord(encodeFlowRecord(record))).toEqual(record);
        },
      ),
    );
    for (const text of ['', '1|2|3', '1|2|3|6', '-1|2|3|0', '1|2|3|0|', 'x'])
      expect(decodeFlowRecord(text)).toBeNull();
  });

  it('both directions and every scope of a flow have one key', () => {
    const src = parseAddress('10.1.0.1');
    const dst = parseAddress('2001:db8::1');
    if (src === null || dst === null) throw new Error('does not parse');
    const tuple = { vrf: 3, src, dst, sport: 1000, dport: 80, proto: 6 };
    expect(flowRecordKey(normaliseTuple(tuple).key)).toBe(
      flowRecordKey(normaliseTuple(reverseTuple(tuple), 7).key),
    );
  });
});

describe('ports of shared SNAT addresses', () => {
  it('who has one survives text and back; garbage is nobody', () => {
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.nat(65_535), (address, port) => {
        expect(decodeSnatHolder(encodeSnatHolder({ address, port }))).toEqual({ address, port });
      }),
    );
    for (const text of ['', '1', '1|2|3', '4294967296|1', '1|65536', '-1|2', 'x|y'])
      expect(decodeSnatHolder(text)).toBeNull();
  });

  it('each has a key of its own', () => {
    const one = { vrf: 1, proto: 6, address: 2, port: 3, remote: 4, remotePort: 5 };
    const keys = Object.keys(one).map((field) => snatPortKey({ ...one, [field]: 9 }));
    expect(new Set([snatPortKey(one), ...keys]).size).toBe(7);
  });
});

describe('state keys', () => {
  it('are taken apart as they were made', () => {
    expect(parseStateKey(stateKey.health('edge1', 'fw1', ''))).toEqual({
      kind: 'health',
      gateway: 'edge1',
      node: 'fw1',
      vrf: '',
    });
    expect(parseStateKey(stateKey.health('edge1', 'fw1', 'red'))).toEqual({
      kind: 'health',
      gateway: 'edge1',
      node: 'fw1',
      vrf: 'red',
    });
    expect(parseStateKey(stateKey.instance('bfd', 'a1'))).toEqual({
      kind: 'instance',
      service: 'bfd',
      id: 'a1',
    });
    expect(parseStateKey(stateKey.alarm('edge1', 'redis-down', ''))).toEqual({
      kind: 'alarm',
      source: 'edge1',
      code: 'redis-down',
      subject: '',
    });
    for (const key of ['intent.tail', 'health.a.b', 'instance.nobody.x', 'x', ''])
      expect(parseStateKey(key)).toBeNull();
  });
});
