// SPDX-License-Identifier: Apache-2.0
/** What parsers, and the datapath after them, are fuzzed with: everything that can be wrong with a good packet, the same at every call. */

const MASKS = [0x01, 0x40, 0x80, 0xff] as const;
const ROUNDS = 100;

/** Whole, with junk behind it, cut at every length, with each byte changed in turn, with up to four bytes changed at once. */
export function* brokenPackets(whole: Uint8Array): Generator<Uint8Array> {
  yield whole.slice();
  const longer = new Uint8Array(whole.length + 30);
  longer.set(whole);
  yield longer;
  for (let length = 0; length < whole.length; length++) yield whole.slice(0, length);
  for (let at = 0; at < whole.length; at++) {
    for (const mask of MASKS) {
      const broken = whole.slice();
      broken[at] = (broken[at] ?? 0) ^ mask;
      yield broken;
    }
  }
  const random = numbers(whole.length);
  for (let round = 0; round < ROUNDS && whole.length > 0; round++) {
    const broken = whole.slice();
    for (let flips = 1 + random(4); flips > 0; flips--) broken[random(whole.length)] = random(256);
    yield broken;
  }
}

/** Whole numbers below a bound, by a small generator of its own, so that a failure can be repeated. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
