// SPDX-License-Identifier: Apache-2.0
// Rules of every shape: IPv4 prefixes of mixed, nesting lengths, three in four with a port range, each for one of three ports of entry.
import { RuleAction, type RuleRow } from '@detour/contracts';
import { type AddressBytes, maskPrefix } from '@detour/core';
import { seededRandom } from '../simulate/random.js';
import { VRF } from './rule-set.js';

const SOURCE_BITS = [8, 16, 24, 24, 32] as const;
const DESTINATION_BITS = [8, 16, 24, 32] as const;
const TCP = 6;
const PORTS_OF_ENTRY = 3;

/** The same ones each time. */
export function makeMixedRules(count: number): RuleRow[] {
  const random = seededRandom(1);
  const pick = (bits: readonly number[]) => bits[random.below(bits.length)] ?? 0;
  return Array.from({ length: count }, (_, i) => {
    const first = random.below(60_000);
    return {
      number: i + 1,
      name: `rule-${i + 1}`,
      priority: random.below(1_000_000),
      vrf: VRF,
      sources: [prefix(0x0a00_0000 + random.below(2 ** 24), pick(SOURCE_BITS))],
      destinations: [prefix(random.below(2 ** 32), pick(DESTINATION_BITS))],
      protocols: random.below(3) === 0 ? [] : [TCP],
      sourcePorts: [],
      destinationPorts: random.below(4) === 0 ? [] : [{ first, last: first + random.below(100) }],
      appliedTo: [1 + random.below(PORTS_OF_ENTRY)],
      action: RuleAction.CHAIN,
      chain: 1,
      level: '',
      dropUnresolved: false,
    };
  });
}

function prefix(address: number, bits: number): RuleRow['sources'][number] {
  const bytes: AddressBytes = new Uint8Array(16).fill(0xff, 10, 12);
  new DataView(bytes.buffer).setUint32(12, address);
  return maskPrefix({ address: bytes, bits: 96 + bits });
}
