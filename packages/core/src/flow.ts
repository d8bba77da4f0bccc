// SPDX-License-Identifier: Apache-2.0
// A flow's identity: the direction-normalised 5-tuple with its VRF, as the datapath keys it (datapath/include/abi.h, struct flow_key).
import { type AddressBytes, compareAddresses, formatAddress } from './address.js';

/** IP protocol numbers that Detour looks into. */
export const PROTO = { icmp: 1, tcp: 6, udp: 17, icmp6: 58 } as const;

/** A packet's tuple as it was seen: from source to destination. Ports are host numbers; ICMP echo has its identifier in both. */
export interface Tuple {
  readonly vrf: number;
  readonly src: AddressBytes;
  readonly dst: AddressBytes;
  readonly sport: number;
  readonly dport: number;
  readonly proto: number;
}

/** End point a sorts before b: by address bytes, then by port as a number. `scope` as in abi.h; 0 for a flow's own record. */
export interface FlowKey {
  readonly vrf: number;
  readonly proto: number;
  readonly scope: number;
  readonly a: AddressBytes;
  readonly b: AddressBytes;
  readonly aport: number;
  readonly bport: number;
}

/** `norm` is 1 when the tuple's source became end point b. */
export function normaliseTuple(tuple: Tuple, scope = 0): { key: FlowKey; norm: 0 | 1 } {
  const order = compareAddresses(tuple.src, tuple.dst) || tuple.sport - tuple.dport;
  const { vrf, proto } = tuple;
  if (order > 0) {
    return {
      key: { vrf, proto, scope, a: tuple.dst, b: tuple.src, aport: tuple.dport, bport: tuple.sport },
      norm: 1,
    };
  }
  return {
    key: { vrf, proto, scope, a: tuple.src, b: tuple.dst, aport: tuple.sport, bport: tuple.dport },
    norm: 0,
  };
}

/** The tuple of the packet that goes from a to b (norm 0) or from b to a (norm 1). */
export function tupleOf(key: FlowKey, norm: 0 | 1): Tuple {
  const { vrf, proto } = key;
  return norm === 0
    ? { vrf, proto, src: key.a, dst: key.b, sport: key.aport, dport: key.bport }
    : { vrf, proto, src: key.b, dst: key.a, sport: key.bport, dport: key.aport };
}

export function reverseTuple(tuple: Tuple): Tuple {
  return { ...tuple, src: tuple.dst, dst: tuple.src, sport: tuple.dport, dport: tuple.sport };
}

/** A stable text for logs, maps and Redis keys: `vrf|proto|a|aport|b|bport`, and `|scope` when it is not 0. */
export function flowKeyText(key: FlowKey): string {
  const text = `${key.vrf}|${key.proto}|${formatAddress(key.a)}|${key.aport}|${formatAddress(key.b)}|${key.bport}`;
  return key.scope === 0 ? text : `${text}|${key.scope}`;
}
