// SPDX-License-Identifier: Apache-2.0
// Ports: from the intent to the model.
import { branchDeviceName, branchInnerDeviceName, tunnelMacAddress } from '@detour/contracts';
import { Fault } from '@detour/core';
import type { Gateway, Numbers, Port } from '@detour/intent';
import { vlanPort } from './desired-arms.js';
import { numberOf, type VrfOf } from './desired-numbers.js';
import { tunnelModel } from './desired-tunnels.js';
import type { AttachMode, PortModel } from './model.js';

/** @throws Fault `refused` for a mode that is not for gateways. */
export function attachModeOf(port: Port, gateway: string): AttachMode {
  const mode = 'attachMode' in port ? port.attachMode : 'auto';
  if (mode === 'tc')
    throw new Fault(
      'refused',
      `port ${gateway}/${port.name}: attachMode tc is for hosts; use auto, native or generic at a gateway`,
    );
  return mode;
}

export interface PortContext {
  readonly numbers: Numbers;
  readonly vrfOf: VrfOf;
  readonly isShared: (snat: string, vrf: string | undefined) => boolean;
}

/** None for ports that say something of others: the underlay, and those of nodes. */
export function portModel(
  port: Port,
  gateway: Gateway,
  { numbers, vrfOf, isShared }: PortContext,
): PortModel[] {
  const what = `port ${gateway.name}/${port.name}`;
  if (port.kind === 'underlay') return [];
  if (port.kind === 'service') return []; // says which VRF the device is in; the node behind it brings the device itself
  const snat = 'snat' in port ? port.snat : undefined;
  if (snat?.includes(':') === true)
    throw new Fault(
      'refused',
      `${what}: snat ${snat} is no IPv4 address, and IPv6 is not translated: give one, or none`,
    );
  const number = numberOf(numbers.ports, `${gateway.name}/${port.name}`, 'port');
  const vrf = vrfOf(port.vrf, what);
  const base = { name: port.name, number, vrf: vrf.number, table: vrf.table, classify: port.classify };
  if (port.kind !== 'vti') {
    const vlan = vlanPort(port, number);
    return [
      {
        ...base,
        kind: port.kind,
        device: vlan?.device ?? port.device,
        attachMode: attachModeOf(port, gateway.name),
        tunnel: null,
        vlan: vlan?.port ?? null,
        ...(snat !== undefined && { snat }),
        ...(snat !== undefined && isShared(snat, port.vrf) && { snatShared: true as const }),
      },
    ];
  }
  const tunnel = tunnelModel(port.tunnel, what);
  return [
    {
      ...base,
      kind: 'vti',
      device: branchDeviceName(port.name, number),
      attachMode: 'auto',
      tunnel: {
        ...tunnel,
        inner: branchInnerDeviceName(number),
        mac: tunnelMacAddress(gateway.underlay.address),
        addresses: port.addresses,
      },
      vlan: null,
    },
  ];
}
