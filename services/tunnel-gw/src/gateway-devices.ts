// SPDX-License-Identifier: Apache-2.0
// Which devices a model needs, and for what.
import { INJECT_DEVICES } from '@detour/contracts';
import { Fault } from '@detour/core';
import { IPV6_LEAST_MTU } from '@detour/wire';
import type { LinkState, VtiDevice } from './devices.js';
import type { AttachMode, GatewayModel, TunnelModel } from './model.js';
import { overheadBytes } from './tunnel-kind.js';

/** Where the program runs, the operator's own devices first. On the operator's side of a VTI it has no row and passes: veth needs a program there to take redirects. */
export function attachedDevices(model: GatewayModel): string[] {
  return [
    ...model.ports.filter((port) => port.tunnel === null).map((port) => port.device),
    model.underlay.device,
    ...model.ports.flatMap((port) => (port.tunnel === null ? [] : [port.tunnel.inner, port.device])),
    ...model.nodes.flatMap((node) => [node.inner, node.device]),
    INJECT_DEVICES[1],
  ];
}

/**
 * How the program goes on a device. What Detour made itself follows the operator's devices: where one of them runs it in generic mode, a
 * frame that a native program redirects there may be lost in silence (its driver, or a veth's far side, takes none).
 */
export function attachModeOf(
  model: GatewayModel,
  device: string,
  attached: readonly { readonly device: string; readonly mode: string }[],
): AttachMode {
  const given = new Map<string, AttachMode>([
    ...model.ports.flatMap((port): [string, AttachMode][] =>
      port.tunnel === null ? [[port.device, port.attachMode]] : [],
    ),
    [model.underlay.device, model.underlay.attachMode],
  ]);
  const own = given.get(device);
  if (own !== undefined) return own;
  const isGeneric = attached.some((row) => given.has(row.device) && row.mode === 'generic');
  return isGeneric || [...given.values()].includes('generic') ? 'generic' : 'auto';
}

export function portDevices(model: GatewayModel): string[] {
  return [...guardedDevices(model), model.underlay.device];
}

/** Devices across which the kernel itself must not route. */
export function guardedDevices(model: GatewayModel): string[] {
  return [...model.ports.map((port) => port.device), ...model.nodes.map((node) => node.device)];
}

/** @throws Fault `not_found` naming all devices that are not there and that are the operator's to make. */
export function requireDevices(model: GatewayModel, links: ReadonlyMap<string, LinkState>): void {
  const needed: [device: string, what: string][] = [
    [model.underlay.device, 'the underlay'],
    ...model.ports
      .filter((port) => port.tunnel === null)
      .map((port): [string, string] => [port.device, `port ${port.name}`]),
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

/** `outerMtu`: bytes of the largest outer packet to a remote end. */
export function vtiDevices(model: GatewayModel, outerMtu: (remote: string) => number): VtiDevice[] {
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
  return [...branches, ...nodes];
}

/** Routing tables of the VRFs that ports and nodes are in. */
export function routingTables(model: GatewayModel): number[] {
  const tables = new Set([...model.ports, ...model.nodes].map((row) => row.table));
  return [...tables].sort((a, b) => a - b);
}

/** Equal texts: the same devices, addresses, tunnels and routing tables, so that nothing has to be made, attached or resolved anew. */
export function machineShape(model: GatewayModel): string {
  return JSON.stringify([
    model.underlay,
    routingTables(model),
    model.ports.map(({ device, attachMode, tunnel }) => [device, attachMode, tunnel]),
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
