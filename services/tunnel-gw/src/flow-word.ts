// SPDX-License-Identifier: Apache-2.0
// The decision word of a flow record (abi.h, enum flow_word): packed and taken apart.
import { abi } from '@detour/contracts';

export interface FlowWordFields {
  readonly path: number;
  readonly initiatorIsB: boolean;
  readonly action: number; // abi.FlowAction
  readonly flags: number; // abi.FlowWordFlag
  readonly chainGen: number;
  readonly fpGen: number;
}

const W = abi.FlowWord;

export function packFlowWord(fields: FlowWordFields): bigint {
  const low =
    (fields.path & W.WORD_PATH_MASK) |
    ((fields.initiatorIsB ? 1 : 0) << W.WORD_FWD_B_SHIFT) |
    ((fields.action & W.WORD_ACTION_MASK) << W.WORD_ACTION_SHIFT) |
    ((fields.flags & 15) << W.WORD_FLAGS_SHIFT);
  const high = (fields.chainGen & 0xffff) | ((fields.fpGen & 0xffff) << 16);
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

export function unpackFlowWord(word: bigint): FlowWordFields {
  const low = Number(word & 0xffff_ffffn);
  const high = Number(word >> 32n);
  return {
    path: low & W.WORD_PATH_MASK,
    initiatorIsB: ((low >>> W.WORD_FWD_B_SHIFT) & 1) === 1,
    action: (low >>> W.WORD_ACTION_SHIFT) & W.WORD_ACTION_MASK,
    flags: low >>> W.WORD_FLAGS_SHIFT,
    chainGen: high & 0xffff,
    fpGen: high >>> 16,
  };
}

/** A node said what is to become of the flow: it is not steered now, though it has a path. */
export function isProgrammed({ flags }: Pick<FlowWordFields, 'flags'>): boolean {
  return (flags & abi.FlowWordFlag.WORD_FLAG_PROGRAMMED) !== 0;
}

/** The flow has a path: it is steered, or would be if a node had not said otherwise. */
export function isServiced(word: Pick<FlowWordFields, 'action' | 'flags'>): boolean {
  return word.action === abi.FlowAction.FLOW_STEER || isProgrammed(word);
}
