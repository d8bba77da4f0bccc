// SPDX-License-Identifier: Apache-2.0
// The program of a service node beside the gateway's: what one sends the other gets, packet by packet. It sits on devices of the rig's network:
// the gateway's underlay device, and the two arms for our sides of the pair.
import { fileURLToPath } from 'node:url';
import { type BpfMap, openObject, perCpuValues, progTestRun } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { ipToKeyBytes, macToBytes } from '@detour/wire';
import { UNDERLAY } from './ends.js';
import { type Kind, kindProto } from './kinds.js';
import { type DropName, type Outcome, type Rig, u32 } from './rig.js';

const OBJECT = fileURLToPath(new URL('../../../datapath/build/node.bpf.o', import.meta.url));

/** MAC addresses of frames on the node's two sides. */
export const NODE_MACS = {
  to: ['02:00:00:00:08:01', '02:00:00:00:08:02'],
  from: ['02:00:00:00:09:01', '02:00:00:00:09:02'],
} as const;
/** Inner addresses of node and gateway. */
export const LINK = { node: '169.254.1.2', peer: '169.254.1.1' } as const;

export type Side = 0 | 1 | 'link';

export interface NodeRig extends Disposable {
  /** As this kind of tunnel, from the gateway of the rig; counters and flows begin anew. */
  setUp(kind: NodeKind, mtu?: number): void;
  /** Its sides are the arms of a router, with these addresses of the machine. */
  setUpArms(kind: NodeKind, own: readonly [string, string]): void;
  underlay(frame: Uint8Array): NodeOutcome;
  side(side: Side, frame: Uint8Array): NodeOutcome;
  drops(name: DropName): bigint;
  counters(): abi.NodeGatewayCounters;
  stranger(): abi.NodeStranger;
  flows(): number;
}

export type NodeKind =
  | Kind
  | { readonly protocol: 'vxlan'; readonly l3: false; readonly remote: string; readonly tag: number };

export interface NodeOutcome {
  readonly verdict: Outcome['verdict'] | 'tx';
  readonly data: Uint8Array;
}

const VERDICTS: Readonly<Record<number, NodeOutcome['verdict']>> = {
  1: 'drop',
  2: 'pass',
  3: 'tx',
  4: 'redirect',
};

export function openNodeRig(rig: Rig): NodeRig {
  const object = openObject(OBJECT, { maxEntries: { node_flows: 1024 } });
  const devices = [rig.ifindex.armA, rig.ifindex.armB] as const;
  const deviceOf = (side: Side) => (side === 'link' ? rig.ifindex.linkA : devices[side]);
  const map = (name: string): BpfMap => object.map(name);
  const run = (program: string, ifindex: number, frame: Uint8Array): NodeOutcome => {
    const { retval, data } = progTestRun(object.program(program), { data: frame, ctx: { ifindex } });
    const verdict = VERDICTS[retval];
    if (verdict === undefined) throw new Error(`verdict ${retval} is none that this program may return`);
    return { verdict, data };
  };
  const sum = (name: string, row: number): bigint[] => {
    const stored = map(name).lookup(u32(row));
    if (stored === undefined) throw new Error(`map ${name} has no row ${row}`);
    const words = Array.from({ length: map(name).valueSize / 8 }, () => 0n);
    for (const value of perCpuValues(map(name), stored)) {
      const view = new DataView(value.buffer, value.byteOffset);
      for (const i of words.keys()) words[i] = (words[i] ?? 0n) + view.getBigUint64(8 * i, true);
    }
    return words;
  };
  const setUp = (kind: NodeKind, mtu: number, own: readonly [string, string] | null): void => {
    const bytes = (macs: readonly [string, string]) =>
      Uint8Array.from([...macToBytes(macs[0]), ...macToBytes(macs[1])]);
    const v6 = kind.remote.includes(':');
    const settings = abi.nodeSettings.encode({
      local: ipToKeyBytes(kind.remote),
      tag: kind.tag ?? 0,
      underlay: rig.ifindex.underlay,
      inner: Uint32Array.from(devices),
      toMac: bytes(NODE_MACS.to),
      fromMac: bytes(NODE_MACS.from),
      mtu,
      proto: kind.protocol === 'vxlan' ? abi.TunnelProto.TUNNEL_VXLAN : kindProto(kind),
      innerL3: kind.l3 ? 1 : 0,
      link: rig.ifindex.linkA,
      own: Uint8Array.from((own ?? ['::', '::']).flatMap((address) => [...ipToKeyBytes(address)])),
      arms: own === null ? 0 : 1,
    });
    map('node_setting').update(u32(0), settings);
    map('node_gateways').update(
      ipToKeyBytes(v6 ? UNDERLAY.ip6 : UNDERLAY.ip4),
      abi.nodeGateway.encode({ node: ipToKeyBytes(LINK.node), peer: ipToKeyBytes(LINK.peer), number: 0 }),
    );
    for (const key of [...map('node_flows').keys()]) map('node_flows').delete(key);
    map('node_counters').update(u32(0), new Uint8Array(map('node_counters').storedSize));
  };
  return {
    setUp: (kind, mtu = 1500) => setUp(kind, mtu, null),
    setUpArms: (kind, own) => setUp(kind, 1500, own),
    underlay: (frame) => run('detour_node_underlay', rig.ifindex.underlay, frame),
    side: (side, frame) => run('detour_node_pair', deviceOf(side), frame),
    drops: (name) => sum('node_drops', abi.DropReason[name])[0] ?? 0n,
    counters: () =>
      abi.nodeGatewayCounters.decode(new Uint8Array(BigUint64Array.from(sum('node_counters', 0)).buffer)),
    stranger: () => abi.nodeStranger.decode(map('node_strangers').lookup(u32(0)) ?? new Uint8Array(32)),
    flows: () => [...map('node_flows').keys()].length,
    [Symbol.dispose]: () => object.close(),
  };
}

/** A frame as it comes back: ends swapped outside and, where Ethernet is inside, inside, all else as it was. Lengths must not have changed. */
export function turned(frame: Uint8Array, innerEthernetAt?: number): Uint8Array {
  const swap = (bytes: Uint8Array, at: number, other: number, length: number): void => {
    const one = bytes.slice(at, at + length);
    bytes.copyWithin(at, other, other + length);
    bytes.set(one, other);
  };
  const out = frame.slice();
  swap(out, 0, 6, 6);
  if (out[12] === 8) swap(out, 26, 30, 4);
  else swap(out, 22, 38, 16);
  if (innerEthernetAt !== undefined) swap(out, innerEthernetAt, innerEthernetAt + 6, 6);
  return out;
}
