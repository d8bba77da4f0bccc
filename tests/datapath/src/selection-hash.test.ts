// SPDX-License-Identifier: Apache-2.0
// Binds datapath/lib/select.h, core's twin and vectors/selection-hash.json: the program's choice is core's hash, and core's hash is the
// file's. A selection table with as many slots as paths shows the hash itself, remainder by remainder.
import { readFileSync } from 'node:fs';
import {
  AFFINITIES,
  type FlowKey,
  hashKeyFromHex,
  hashKeyToBigInt,
  normaliseTuple,
  parseAddress,
  selectionHash,
} from '@detour/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHAIN, VRF } from './ends.js';
import { clientFrame, pathOf, putFlow, readFlow } from './flow-records.js';
import { openRig } from './rig.js';
import { publishAll, putChain, putPath } from './world.js';

interface Vector {
  readonly secret: string;
  readonly affinity: (typeof AFFINITIES)[number];
  readonly vrf: number;
  readonly src: string;
  readonly sport: number;
  readonly dst: string;
  readonly dport: number;
  readonly proto: number;
  readonly hash: number;
}

const file = JSON.parse(
  readFileSync(new URL('../../../vectors/selection-hash.json', import.meta.url), 'utf8'),
) as { vectors: Vector[] };

function keyOf(vector: Vector): { key: FlowKey; norm: 0 | 1 } {
  const address = (text: string): Uint8Array => parseAddress(text) ?? new Uint8Array(16);
  return normaliseTuple({ ...vector, src: address(vector.src), dst: address(vector.dst) });
}

/** Coprime slot counts: the remainders tell one 32-bit hash from another. */
const MODULI = [101, 251, 256, 509, 1021];
const rig = openRig();
afterAll(() => rig[Symbol.dispose]());

describe('the selection hash', () => {
  beforeAll(() => {
    publishAll(rig);
    for (let path = 1; path <= Math.max(...MODULI); path++)
      putPath(rig, 0, 1000 + path, { chain: CHAIN.two, nodes: [1] });
  });

  it('of the file covers every affinity and both families', () => {
    expect(new Set(file.vectors.map((vector) => vector.affinity))).toEqual(new Set(AFFINITIES));
    expect(file.vectors.some((vector) => vector.src.includes(':'))).toBe(true);
  });

  it.each(file.vectors)('$affinity of $src:$sport > $dst:$dport is $hash for core', (vector) => {
    const { key, norm } = keyOf(vector);
    expect(selectionHash(key, vector.affinity, norm === 1, hashKeyFromHex(vector.secret))).toBe(vector.hash);
  });

  it.each(file.vectors.filter((vector) => vector.vrf === VRF))(
    '$affinity of $src:$sport > $dst:$dport is the same for the program',
    (vector) => {
      rig.control({ hashKey: hashKeyToBigInt(hashKeyFromHex(vector.secret)) });
      const transport = { kind: 'tcp', srcPort: vector.sport, dstPort: vector.dport } as const;
      for (const slots of MODULI) {
        const paths = Array.from({ length: slots }, (_, slot) => 1001 + slot);
        putChain(rig, 0, CHAIN.two, paths, { gen: 9, affinity: AFFINITIES.indexOf(vector.affinity) });
        const record = putFlow(rig, { ...vector, chain: CHAIN.two, path: 0, gen: 1 });
        rig.send('inside', clientFrame({ src: vector.src, dst: vector.dst, transport }));
        expect(pathOf(readFlow(rig, record))).toBe(1001 + (vector.hash % slots));
      }
    },
  );
});
