// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BfdPacket, bfdPacketLenBytes, bfdStates, encodeBfdPacket, parseBfdPacket } from './bfd.js';

interface Vectors {
  readonly accepted: readonly { name: string; hex: string; packet: BfdPacket }[];
  readonly refused: readonly { name: string; hex: string; why: string; got: number }[];
}
const vectors: Vectors = JSON.parse(
  readFileSync(new URL('../../../vectors/bfd.json', import.meta.url), 'utf8'),
);
const bytesOf = (hex: string) => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const anyPacket: fc.Arbitrary<BfdPacket> = fc
  .record({
    diag: fc.integer({ min: 0, max: 31 }),
    state: fc.constantFrom(...bfdStates),
    poll: fc.boolean(),
    final: fc.boolean(),
    controlPlaneIndependent: fc.boolean(),
    demand: fc.boolean(),
    detectMult: fc.integer({ min: 1, max: 255 }),
    myDiscr: fc.integer({ min: 1, max: 0xffff_ffff }),
    yourDiscr: u32,
    desiredMinTxUs: u32,
    requiredMinRxUs: u32,
    requiredMinEchoRxUs: u32,
  })
  .filter((packet) => packet.yourDiscr !== 0 || packet.state === 'down' || packet.state === 'admin-down');

describe('BFD control packets', () => {
  it.each(vectors.accepted)('reads and writes: $name', ({ hex, packet }) => {
    expect(parseBfdPacket(bytesOf(hex))).toEqual({ ok: true, packet });
    expect(encodeBfdPacket(packet)).toEqual(bytesOf(hex));
  });

  it.each(vectors.refused)('refuses: $name', ({ hex, why, got }) => {
    expect(parseBfdPacket(bytesOf(hex))).toEqual({ ok: false, why, got });
  });

  it('reads back whatever it writes, also inside a larger buffer and with bytes behind it', () => {
    fc.assert(
      fc.property(anyPacket, fc.uint8Array({ maxLength: 40 }), (packet, tail) => {
        const room = new Uint8Array(7 + bfdPacketLenBytes + tail.byteLength);
        room.set(tail, 7 + bfdPacketLenBytes);
        expect(encodeBfdPacket(packet, room.subarray(7)).byteLength).toBe(bfdPacketLenBytes);
        expect(parseBfdPacket(room.subarray(7))).toEqual({ ok: true, packet });
      }),
    );
  });

  it('never throws, and accepts only what it would write itself', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const parsed = parseBfdPacket(bytes);
        if (parsed.ok) expect(encodeBfdPacket(parsed.packet).subarray(4)).toEqual(bytes.subarray(4, 24));
      }),
    );
  });

  it('survives every cut and every flipped byte of a good packet', () => {
    fc.assert(
      fc.property(anyPacket, fc.nat(23), fc.integer({ min: 1, max: 255 }), (packet, at, mask) => {
        const bytes = encodeBfdPacket(packet);
        expect(parseBfdPacket(bytes.subarray(0, at))).toMatchObject({ ok: false, why: 'too-short', got: at });
        bytes[at] = (bytes[at] ?? 0) ^ mask;
        const parsed = parseBfdPacket(bytes);
        if (parsed.ok) expect(parsed.packet).not.toEqual(packet);
        else expect(parsed.got).toBeTypeOf('number');
      }),
    );
  });
});
