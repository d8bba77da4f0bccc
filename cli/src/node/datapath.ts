// SPDX-License-Identifier: Apache-2.0
/** The program on a node's devices: loaded, told what it is for, asked what it has seen. */
import { fileURLToPath } from 'node:url';
import { attachXdp, type BpfMap, type BpfObject, openObject, perCpuValues, type XdpLink } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { formatAddress, parseAddress } from '@detour/core';
import { macToBytes } from '@detour/wire';
import type { NodeConfig } from './config.js';
import { type Devices, type LinkState, vethsOf } from './devices.js';

/** Directory of the programs, where no other is given. */
export const OBJECT_DIR = fileURLToPath(new URL('../../../datapath/build', import.meta.url));

/** What was counted of one gateway. */
export interface GatewayCounts extends abi.NodeGatewayCounters {
  /** Nanoseconds of CLOCK_MONOTONIC; 0 = never. */
  readonly lastNs: bigint;
}

export interface Counts {
  readonly gateways: readonly GatewayCounts[];
  /** By name, in lower case, those that are not 0. */
  readonly drops: Readonly<Record<string, number>>;
  readonly stranger: { readonly address: string; readonly packets: number };
}

export interface NodeDatapath extends Disposable {
  /** Puts the program on the devices and tells it about them. @throws Fault naming the device that cannot have it */
  place(devices: Devices, links: ReadonlyMap<string, LinkState>, mtu: number): void;
  /** Device and mode of each link; a device whose program is gone is missing. */
  attached(): ReadonlyMap<string, string>;
  read(): Counts;
}

/** @param objects directory of `node.bpf.o` and `pass.bpf.o`. @throws Fault as `openObject` */
export function openNodeDatapath(config: NodeConfig, objects: string): NodeDatapath {
  const object = openObject(`${objects}/node.bpf.o`, { maxEntries: { node_flows: config.flows } });
  let passer: BpfObject | undefined;
  const links = new Map<string, XdpLink>();
  try {
    passer = openObject(`${objects}/pass.bpf.o`);
    for (const [number, gateway] of config.gateways.entries())
      object.map('node_gateways').update(
        addressKey(gateway.address),
        abi.nodeGateway.encode({
          node: gateway.local === undefined ? new Uint8Array(16) : addressKey(gateway.local),
          peer: gateway.peer === undefined ? new Uint8Array(16) : addressKey(gateway.peer),
          number,
        }),
      );
  } catch (error) {
    passer?.close();
    object.close();
    throw error;
  }
  const pass = passer;
  const put = (device: string, program: string, ifindex: number): void => {
    const old = links.get(device);
    if (old !== undefined && old.ifindex === ifindex && old.isAttached()) return;
    old?.close();
    links.delete(device);
    const from = program === 'detour_pass' ? pass : object;
    links.set(device, attachXdp(from.program(program), ifindex, config.xdp));
  };
  return {
    place: (devices, found, mtu) => {
      const index = (device: string) => found.get(device)?.ifindex ?? 0;
      object.map('node_setting').update(u32(0), settingsOf(config, devices, index, mtu));
      for (const { device, far } of vethsOf(devices)) {
        put(device, 'detour_pass', index(device)); // without a program there, its peer cannot be redirected into
        put(far, 'detour_node_pair', index(far));
      }
      for (const { device } of devices.arms ?? []) put(device, 'detour_node_pair', index(device));
      put(config.underlay.device, 'detour_node_underlay', index(config.underlay.device));
    },
    attached: () =>
      new Map(
        [...links].flatMap(([device, link]) => (link.isAttached() ? [[device, link.mode] as const] : [])),
      ),
    read: () => ({
      gateways: config.gateways.map((_, number) => gatewayCounts(object.map('node_counters'), number)),
      drops: dropCounts(object.map('node_drops')),
      stranger: stranger(object.map('node_strangers')),
    }),
    [Symbol.dispose]: () => {
      for (const link of links.values()) link.close();
      pass.close();
      object.close();
    },
  };
}

/** How the datapath tells this attach's tunnel from others. */
export function tunnelOf({ attach }: NodeConfig): {
  proto: number;
  tag: number;
  l3: boolean;
  overhead: number;
} {
  const { TunnelProto: proto } = abi;
  if (attach.kind === 'gwlb') return { proto: proto.TUNNEL_GENEVE, tag: 0, l3: true, overhead: 16 };
  switch (attach.protocol) {
    case 'vxlan':
      return { proto: proto.TUNNEL_VXLAN, tag: attach.vni, l3: false, overhead: 30 };
    case 'geneve': {
      const l3 = attach.inner === 'l3';
      return { proto: proto.TUNNEL_GENEVE, tag: attach.vni, l3, overhead: l3 ? 16 : 30 };
    }
    case 'gre': {
      const l3 = attach.inner === 'l3';
      const keyed = attach.key !== undefined;
      return {
        proto: keyed ? proto.TUNNEL_GRE : proto.TUNNEL_GRE_PLAIN,
        tag: attach.key ?? 0,
        l3,
        overhead: (keyed ? 8 : 4) + (l3 ? 0 : 14),
      };
    }
  }
}

function settingsOf(
  config: NodeConfig,
  devices: Devices,
  index: (device: string) => number,
  mtu: number,
): Uint8Array {
  const { proto, tag, l3 } = tunnelOf(config);
  const macs = (two: readonly [string, string]) =>
    Uint8Array.from(two.flatMap((mac) => [...macToBytes(mac)]));
  return abi.nodeSettings.encode({
    local: addressKey(config.underlay.address),
    tag,
    underlay: index(config.underlay.device),
    inner: Uint32Array.of(index(devices.in.far), index(devices.out.far)),
    toMac: macs(devices.toMac),
    fromMac: macs(devices.fromMac),
    mtu,
    proto,
    innerL3: l3 ? 1 : 0,
    link: devices.link === null ? 0 : index(devices.link.far),
    own: ownAddresses(devices),
    arms: devices.arms === null ? 0 : 1,
  });
}

/** Of the machine beside a router's arms, one after the other; zeros without. */
function ownAddresses({ arms }: Devices): Uint8Array {
  const all = new Uint8Array(32);
  for (const [side, { own }] of (arms ?? []).entries()) all.set(own, 16 * side);
  return all;
}

function addressKey(address: string): Uint8Array {
  const bytes = parseAddress(address);
  if (bytes === null) throw new RangeError(`${address} was checked to be an address`);
  return bytes;
}

function gatewayCounts(map: BpfMap, number: number): GatewayCounts {
  const stored = map.lookup(u32(number)) ?? new Uint8Array(map.storedSize);
  const rows = perCpuValues(map, stored).map((value) => abi.nodeGatewayCounters.decode(value));
  const [first, ...rest] = rows;
  if (first === undefined) throw new RangeError('a per-CPU map has no CPU');
  const sum = (name: keyof abi.NodeGatewayCounters) =>
    rest.reduce((all, row) => all + row[name], first[name]);
  const names = Object.keys(abi.nodeGatewayCounters.offsets) as (keyof abi.NodeGatewayCounters)[];
  const summed = Object.fromEntries(
    names.map((name) => [name, sum(name)]),
  ) as unknown as abi.NodeGatewayCounters;
  return {
    ...summed,
    lastNs: rows.map((row) => row.lastNs).sort((a, b) => Number(b - a))[0] ?? 0n,
    wrongTag: rows.find((row) => row.wrongTagPackets > 0n)?.wrongTag ?? 0n,
  };
}

function dropCounts(map: BpfMap): Record<string, number> {
  const drops: Record<string, number> = {};
  for (let reason = 1; reason < abi.DropReason.DROP_REASONS; reason++) {
    const stored = map.lookup(u32(reason));
    if (stored === undefined) continue;
    const packets = perCpuValues(map, stored).reduce(
      (sum, value) => sum + Number(new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true)),
      0,
    );
    if (packets > 0) drops[(abi.dropReasonName(reason) ?? '').replace('DROP_', '').toLowerCase()] = packets;
  }
  return drops;
}

function stranger(map: BpfMap): Counts['stranger'] {
  const row = abi.nodeStranger.decode(map.lookup(u32(0)) ?? new Uint8Array(abi.nodeStranger.size));
  return { address: formatAddress(row.src), packets: Number(row.packets) };
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
