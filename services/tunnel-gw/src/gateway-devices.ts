// SPDX-License-Identifier: Apache-2.0
// Which devices a model needs, and for what.
import { INJECT_DEVICES } from '@detour/contracts';
import { Fault } from '@detour/core';
import { IPV6_LEAST_MTU } from '@detour/wire';
import type { LinkState, VtiDevice } from './devices.js';
import { type AttachMode, everyNode, type GatewayModel, type TunnelModel, type VlanTags } from './model.js';
import { overheadBytes } from './tunnel-kind.js';

/** A veth pair that stands for a VLAN port or a node's arm: what the stack sends and hears on the lower device with these tags. */
export interface LinkModel {
  readonly device: string;
  readonly inner: string;
  readonly lower: string;
  readonly tags: VlanTags;
  readonly addresses: readonly string[];
  readonly what: string;
  readonly arm: boolean;
}

export function linkModels(model: GatewayModel): LinkModel[] {
  const ports = model.ports.flatMap(({ name, device, vlan }) =>
    vlan === null ? [] : [{ ...vlan, device, what: `port ${name}`, arm: false }],
  );
  const arms = model.armed.flatMap(({ label, arms: [uplink, inside] }) =>
    (uplink.device === inside.device ? [uplink] : [uplink, inside]).map((arm) => ({
      ...arm,
      what: `node ${label}`,
      arm: true,
    })),
  );
  return [...ports, ...arms];
}

/** Devices of the operator's that have VLANs of ours on them. */
export function trunkDevices(model: GatewayModel): Set<string> {
  return new Set(linkModels(model).flatMap(({ lower, tags }) => (tags.vlan === 0 ? [] : [lower])));
}

/** The port that is this device itself. */
function portsOnDevices(model: GatewayModel): GatewayModel['ports'] {
  return model.ports.filter(({ tunnel, vlan }) => tunnel === null && vlan === null);
}

/** Devices of the operator's on which the program runs: whatever enters by them is lost to the chains without it. */
export function operatorDevices(model: GatewayModel): string[] {
  const own = portsOnDevices(model).map((port) => port.device);
  return [...new Set([...own, ...linkModels(model).map((link) => link.lower), model.underlay.device])];
}

/** Where the program runs, the operator's own devices first. On the operator's side of a VTI it has no row and passes: veth needs a program there to take redirects. */
export function attachedDevices(model: GatewayModel): string[] {
  const links = linkModels(model);
  return [
    ...operatorDevices(model),
    ...model.ports.flatMap((port) => (port.tunnel === null ? [] : [port.tunnel.inner, port.device])),
    ...links.flatMap((link) => [link.inner, link.device]),
    ...model.nodes.flatMap((node) => [node.inner, node.device]),
    INJECT_DEVICES[1],
  ];
}

/**
 * How the program goes on a device. What Detour made itself follows the operator's devices: where one of them runs it in generic mode, a
 * frame that a native program redirects there may be lost in silence (its driver, or a veth's far side, takes none).
 */
export function attachModesOf(
  model: GatewayModel,
): (device: string, attached: readonly { readonly device: string; readonly mode: string }[]) => AttachMode {
  const given = new Map<string, AttachMode>([
    ...model.armed.flatMap(({ arms }) => arms.map(({ lower }): [string, AttachMode] => [lower, 'auto'])),
    ...model.ports.flatMap((port): [string, AttachMode][] =>
      port.tunnel === null ? [[port.vlan?.lower ?? port.device, port.attachMode]] : [],
    ),
    [model.underlay.device, model.underlay.attachMode],
  ]);
  const asksGeneric = [...given.values()].includes('generic');
  return (device, attached) => {
    const own = given.get(device);
    if (own !== undefined) return own;
    const isGeneric = attached.some((row) => row.mode === 'generic' && given.has(row.device));
    return isGeneric || asksGeneric ? 'generic' : 'auto';
  };
}

export function portDevices(model: GatewayModel): string[] {
  return [...guardedDevices(model), model.underlay.device];
}

/** Devices across which the kernel itself must not route. */
export function guardedDevices(model: GatewayModel): string[] {
  const links = linkModels(model);
  return [
    ...new Set([
      ...model.ports.map((port) => port.device),
      ...model.nodes.map((node) => node.device),
      ...links.flatMap((link) => [link.device, link.lower]),
    ]),
  ];
}

/** @throws Fault `not_found` naming all devices that are not there and that are the operator's to make. */
export function requireDevices(model: GatewayModel, links: ReadonlyMap<string, LinkState>): void {
  const needed: [device: string, what: string][] = [
    [model.underlay.device, 'the underlay'],
    ...portsOnDevices(model).map((port): [string, string] => [port.device, `port ${port.name}`]),
    ...linkModels(model).map((link): [string, string] => [link.lower, link.what]),
  ];
  const missing = needed
    .filter(([device]) => !links.has(device))
    .map(([device, what]) => `${device} of ${what}`);
  if (missing.length === 0) return;
  throw new Fault(
    'not_found',
    `device ${missing.join(', ')} does not exist on this machine: create it, or correct the intent`,
  );
}

/**
 * Every veth pair that the model needs: of VTIs, VLAN ports and arms. The last two have the MAC and the MTU of the device below.
 * `outerMtu`: bytes of the largest outer packet to a remote end.
 */
export function vtiDevices(
  model: GatewayModel,
  links: ReadonlyMap<string, LinkState>,
  outerMtu: (remote: string) => number,
): VtiDevice[] {
  /** 1280: IPv6 needs it, also where the underlay has no room for it (RFC 8200 5). */
  const mtuOf = (tunnel: TunnelModel) =>
    Math.min(1500, Math.max(IPV6_LEAST_MTU, outerMtu(tunnel.remote) - overheadBytes(tunnel)));
  const branches = model.ports.flatMap(({ device, tunnel }) => {
    if (tunnel === null) return [];
    const { inner, mac, addresses, l3 } = tunnel;
    return [{ device, inner, mac, addresses, mtu: mtuOf(tunnel), noArp: l3, peers: [] }];
  });
  const nodes = model.nodes.map((node) => ({
    device: node.device,
    inner: node.inner,
    mac: node.mac,
    addresses: [node.local],
    mtu: mtuOf(node),
    noArp: node.l3,
    peers: node.l3 ? [node.peer] : [],
  }));
  const onDevices = linkModels(model).flatMap(({ device, inner, lower, addresses, arm }) => {
    const below = links.get(lower);
    return below === undefined
      ? []
      : [{ device, inner, mac: below.mac, addresses, mtu: below.mtu, noArp: false, peers: [], arm }];
  });
  return [...branches, ...nodes, ...onDevices];
}

/** Routing tables of the VRFs that ports and nodes are in. */
export function routingTables(model: GatewayModel): number[] {
  const tables = new Set([...model.ports, ...everyNode(model)].map((row) => row.table));
  return [...tables].sort((a, b) => a - b);
}

/** Equal texts: the same devices, addresses, tunnels and routing tables, so that nothing has to be made, attached or resolved anew. */
export function machineShape(model: GatewayModel): string {
  return JSON.stringify([
    model.underlay,
    routingTables(model),
    model.ports.map(({ device, attachMode, tunnel, vlan }) => [device, attachMode, tunnel, vlan]),
    model.armed.map(({ number, arms }) => [number, arms]),
    model.nodes.map(({ device, inner, mac, local, peer, remote, l3 }) => [
      device,
      inner,
      mac,
      local,
      peer,
      remote,
      l3,
    ]),
  ]);
}
