// SPDX-License-Identifier: Apache-2.0
// What a predecessor left of chains in the live bank, so that a successor goes on from there: generations, and the paths in use.
import { abi } from '@detour/contracts';
import type { InUse } from '@detour/tables';
import { ChainModels } from './chain-models.js';
import type { Datapath } from './datapath.js';
import { u32Key } from './row-bytes.js';
import type { SlotBook } from './slot-book.js';

type LiveBank = Pick<Datapath, 'map' | 'readBank'>;

export function chainsFrom(bank: LiveBank, slots: SlotBook): ChainModels {
  return new ChainModels(generations(bank), slots, (chain) => pathsInUse(bank, chain));
}

function generations(bank: LiveBank): Map<number, number> {
  const gens = new Map<number, number>();
  for (let number = 0; number < abi.DetourLimit.DT_MAX_CHAINS; number++) {
    const row = bank.map('chains').lookup(keyOf(bank, number));
    if (row !== undefined) gens.set(number, abi.chain.decode(row).gen);
  }
  return gens;
}

/** Paths that a chain's slots name. */
function pathsInUse(bank: LiveBank, chain: number): InUse {
  const row = bank.map('chains').lookup(keyOf(bank, chain));
  const count = row === undefined ? 0 : abi.chain.decode(row).nslots;
  const slots = count === 0 ? undefined : bank.map('selections').lookup(keyOf(bank, chain));
  if (slots === undefined) return new Set();
  return new Set(new Uint16Array(slots.buffer, slots.byteOffset, count));
}

function keyOf(bank: LiveBank, chain: number): Uint8Array {
  return u32Key(bank.readBank() * abi.DetourLimit.DT_MAX_CHAINS + chain);
}
