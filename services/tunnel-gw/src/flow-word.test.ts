// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packFlowWord, unpackFlowWord } from './flow-word.js';

const fields = fc.record({
  path: fc.integer({ min: 0, max: abi.FlowWord.WORD_PATH_MASK }),
  initiatorIsB: fc.boolean(),
  action: fc.integer({ min: 0, max: 15 }),
  flags: fc.integer({ min: 0, max: 15 }),
  chainGen: fc.integer({ min: 0, max: 0xffff }),
  fpGen: fc.integer({ min: 0, max: 0xffff }),
});

describe('the decision word', () => {
  it('is taken apart into what it was made of', () => {
    fc.assert(
      fc.property(fields, (word) => {
        expect(unpackFlowWord(packFlowWord(word))).toEqual(word);
      }),
    );
  });

  it('fits 64 bits, every bit of it used', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (word) => {
        expect(packFlowWord(unpackFlowWord(word))).toBe(word);
      }),
    );
  });

  it('has its parts where abi.h says', () => {
    const zero = { path: 0, initiatorIsB: false, action: 0, flags: 0, chainGen: 0, fpGen: 0 };
    const W = abi.FlowWord;
    expect(packFlowWord({ ...zero, path: 5 })).toBe(5n);
    expect(packFlowWord({ ...zero, initiatorIsB: true })).toBe(1n << BigInt(W.WORD_FWD_B_SHIFT));
    expect(packFlowWord({ ...zero, action: abi.FlowAction.FLOW_STEER })).toBe(
      4n << BigInt(W.WORD_ACTION_SHIFT),
    );
    expect(packFlowWord({ ...zero, flags: 1 })).toBe(1n << BigInt(W.WORD_FLAGS_SHIFT));
    expect(packFlowWord({ ...zero, chainGen: 1 })).toBe(1n << BigInt(W.WORD_CHAIN_GEN_SHIFT));
    expect(packFlowWord({ ...zero, fpGen: 1 })).toBe(1n << BigInt(W.WORD_FP_GEN_SHIFT));
  });
});
