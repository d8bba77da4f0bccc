// SPDX-License-Identifier: Apache-2.0
// The slot of a key in a Redis Cluster (Redis Cluster Specification, "Key distribution model"): CRC-16/XMODEM modulo 16384, of what is
// between the first braces where there is something.

const SLOTS = 16_384;
const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021;
  return crc;
});

/** The key is ASCII. */
export function keySlot(key: string): number {
  const open = key.indexOf('{');
  const close = open < 0 ? -1 : key.indexOf('}', open + 1);
  const [from, to] = close > open + 1 ? [open + 1, close] : [0, key.length];
  let crc = 0;
  for (let i = from; i < to; i++)
    crc = ((crc << 8) & 0xffff) ^ (TABLE[((crc >>> 8) ^ key.charCodeAt(i)) & 0xff] ?? 0);
  return crc % SLOTS;
}
