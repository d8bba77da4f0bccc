// SPDX-License-Identifier: Apache-2.0
// bpf/tries.bpf.c, filled with rules and asked for packets: what a rule look-up by the kernel's LPM tries costs at the least.
import { mapArray, openObject, progTestRun, updateBatch } from '@detour/bpf';
import type { RuleRow } from '@detour/contracts';
import type { Tuple } from '@detour/core';
import { buildBenchObject } from '../bpf-objects.js';
import { mapBytes } from './map-bytes.js';

const WORDS_AT = 4;
const PACKET_BYTES = 40;
const VRF_BITS = 32;

export interface TriesProbe extends Disposable {
  /** Nanoseconds of one look-up, or of none; the mean of `repeat` runs. */
  run(lookups: boolean, repeat: number): number;
  rule(index: number): number;
  /** Kernel memory of sources' and destinations' tries and of the hash, as the kernel accounts it. */
  readonly bytes: number;
}

/** Of rules with one source, one destination, one protocol and one port each. */
export async function openTriesProbe(
  rules: readonly RuleRow[],
  tuples: readonly Tuple[],
  v6: boolean,
): Promise<TriesProbe> {
  const object = openObject(await buildBenchObject('tries'));
  const program = object.program('tries_probe');
  const family = v6 ? 6 : 4;
  const source = new Map<string, number>();
  const destination = new Map<string, number>();
  const keys = { source: [] as Uint8Array[], destination: [] as Uint8Array[], pair: [] as Uint8Array[] };
  const classOf = (seen: Map<string, number>, into: Uint8Array[], key: Uint8Array): number => {
    const text = Buffer.from(key).toString('hex');
    const known = seen.get(text);
    if (known !== undefined) return known;
    into.push(key);
    seen.set(text, into.length);
    return into.length;
  };
  for (const rule of rules) {
    const src = classOf(source, keys.source, trieKey(rule.vrf, rule.sources[0], v6));
    const dst = classOf(destination, keys.destination, trieKey(rule.vrf, rule.destinations[0], v6));
    const pair = new Uint8Array(12);
    const view = new DataView(pair.buffer);
    view.setUint32(0, src, true);
    view.setUint32(4, dst, true);
    view.setUint16(8, rule.destinationPorts[0]?.first ?? 0, true);
    view.setUint8(10, rule.protocols[0] ?? 0);
    keys.pair.push(pair);
  }
  const numbers = (count: number, at: (i: number) => number): Uint8Array =>
    new Uint8Array(Uint32Array.from({ length: count }, (_, i) => at(i)).buffer);
  const used = { sources: object.map(`sources${family}`), destinations: object.map(`destinations${family}`) };
  await updateBatch(
    used.sources,
    joined(keys.source),
    numbers(keys.source.length, (i) => i + 1),
  );
  await updateBatch(
    used.destinations,
    joined(keys.destination),
    numbers(keys.destination.length, (i) => i + 1),
  );
  await updateBatch(
    object.map('pairs'),
    joined(keys.pair),
    numbers(rules.length, (i) => rules[i]?.number ?? 0),
  );
  const packets = mapArray(object.map('packets'));
  const told = mapArray(object.map('rules'));
  for (const [i, tuple] of tuples.entries()) packets.bytes.set(packetBytes(tuple, v6), i * PACKET_BYTES);
  return {
    run: (lookups, repeat) => {
      const data = new Uint8Array(64);
      new Uint32Array(data.buffer).set([tuples.length, lookups ? 1 : 0], WORDS_AT);
      return progTestRun(program, { data, repeat }).durationNs / tuples.length;
    },
    rule: (index) => {
      const element = told.element(index);
      return new DataView(element.buffer, element.byteOffset).getUint32(0, true);
    },
    bytes: mapBytes(used.sources) + mapBytes(used.destinations) + mapBytes(object.map('pairs')),
    [Symbol.dispose]: () => {
      packets.close();
      told.close();
      object.close();
    },
  };
}

function trieKey(vrf: number, prefix: RuleRow['sources'][number] | undefined, v6: boolean): Uint8Array {
  if (prefix === undefined) throw new RangeError('a rule without a source and a destination');
  const key = new Uint8Array(v6 ? 24 : 12);
  const view = new DataView(key.buffer);
  view.setUint32(0, VRF_BITS + prefix.bits - (v6 ? 0 : 96), true);
  view.setUint32(4, vrf, true);
  key.set(v6 ? prefix.address : prefix.address.subarray(12), 8);
  return key;
}

function packetBytes({ vrf, src, dst, dport, proto }: Tuple, v6: boolean): Uint8Array {
  const bytes = new Uint8Array(PACKET_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, vrf, true);
  bytes.set(v6 ? src : src.subarray(12), 4);
  bytes.set(v6 ? dst : dst.subarray(12), 20);
  view.setUint16(36, dport, true);
  view.setUint8(38, proto);
  view.setUint8(39, v6 ? 1 : 0);
  return bytes;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
