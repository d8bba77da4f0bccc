// SPDX-License-Identifier: Apache-2.0
// Records of established flows, many at once, of what the generator makes.
import { type BpfObject, updateBatch } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { type FlowKey, normaliseTuple } from '@detour/core';
import { ipToKeyBytes } from '@detour/wire';
import { CHAIN, CHAIN_ROW, PORT, VRF } from './edge-tables.js';
import { DESTINATION, flowSource } from './generator-protocol.js';

/** What is recorded of one flow. */
export interface FlowPlace {
  readonly path: number;
  readonly vrf: number;
  /** Number of the port by which its packets enter. */
  readonly port: number;
}

export interface RecordedFlows {
  /** Source address of flow 0, as a number. */
  readonly base: number;
  /** The path of all of them, in the first VRF … */
  readonly number: number;
  /** … or where each of them is. */
  readonly placeOf?: (index: number) => FlowPlace;
  /** The other end, as the record has it; default where packets are sent to. */
  readonly destination?: string;
  /** The flow began there: packets are its replies. */
  readonly reply?: true;
}

export interface FlowEnds {
  readonly key: FlowKey;
  /** Which end point sends: 1 = b. */
  readonly norm: 0 | 1;
}

/** Key of a flow, from what the generator sends. */
export function flowEnds(flows: RecordedFlows, index: number, vrf: number = VRF): FlowEnds {
  const { address, port } = flowSource(flows.base, index);
  const dst = ipToKeyBytes(flows.destination ?? DESTINATION.address);
  return normaliseTuple({ vrf, src: mapped(address), dst, sport: port, dport: DESTINATION.port, proto: 17 });
}

const RULE = 5;
const CHUNK = 8192;

/** Flows `from` .. `to` - 1; slots start behind `slotBase`. */
export async function recordFlows(
  edge: BpfObject,
  flows: RecordedFlows,
  range: { readonly from: number; readonly to: number; readonly slotBase: number },
): Promise<void> {
  for (let at = range.from; at < range.to; at += CHUNK) {
    const count = Math.min(CHUNK, range.to - at);
    const keys = new Uint8Array(count * abi.flowKey.size);
    const values = new Uint8Array(count * abi.flow.size);
    for (let i = 0; i < count; i++) {
      const place = flows.placeOf?.(at + i) ?? { path: flows.number, vrf: VRF, port: PORT.inside };
      const { key, norm } = flowEnds(flows, at + i, place.vrf);
      const initiator = flows.reply === true ? norm ^ 1 : norm;
      abi.flowKey.write(key, keys, i * abi.flowKey.size);
      abi.flow.write(
        flowRow(place, initiator, { index: at + i, slot: range.slotBase + at + i }),
        values,
        i * abi.flow.size,
      );
    }
    await updateBatch(edge.map('flows'), keys, values);
  }
}

function flowRow(
  place: FlowPlace,
  initiator: number,
  at: { readonly index: number; readonly slot: number },
): abi.Flow {
  const { FlowWord: word } = abi;
  return {
    word:
      BigInt(place.path) |
      (BigInt(initiator) << BigInt(word.WORD_FWD_B_SHIFT)) |
      (BigInt(abi.FlowAction.FLOW_STEER) << BigInt(word.WORD_ACTION_SHIFT)) |
      (BigInt(CHAIN_ROW.gen) << BigInt(word.WORD_CHAIN_GEN_SHIFT)),
    createdNs: 0n,
    rule: RULE,
    slot: at.slot,
    rulesGen: 1,
    chain: CHAIN,
    fwdPort: place.port,
    entropy: 0xc000 | (at.index & 0x3fff),
    pinGen: 1,
    altScope: 0,
    out: [NO_HOP, NO_HOP],
  };
}

const NO_HOP: abi.Nexthop = {
  gen: 0,
  ifindex: 0,
  dmac: new Uint8Array(6),
  smac: new Uint8Array(6),
  mtu: 0,
  hop: 0,
};

/** ::ffff:a.b.c.d (RFC 4291 2.5.5.2) */
function mapped(address: number): Uint8Array {
  const bytes = new Uint8Array(16).fill(0xff, 10, 12);
  new DataView(bytes.buffer).setUint32(12, address);
  return bytes;
}
