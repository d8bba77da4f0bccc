// SPDX-License-Identifier: Apache-2.0
/** Checks of gateways, hosts and their ports: VRFs exist, devices have one use, tunnels can be told apart, services do not classify. */
import { parseAddress } from './address.js';
import { checkReference } from './check-names.js';
import type { Draft, Finding, Placed, Report } from './draft.js';
import type { Attach, Gateway, Port } from './schema.js';

type Tunnel = Extract<Port, { kind: 'vti' }>['tunnel'] | Extract<Attach, { kind: 'tunnel' }>;

/** What the outer header says of a tunnel; two tunnels of one gateway must differ in it. */
export function tunnelKey(tunnel: Tunnel): string {
  const tag = tunnel.protocol === 'gre' ? (tunnel.key ?? 'no key') : tunnel.vni;
  return `${tunnel.protocol} ${tunnel.remote} ${tunnel.protocol === 'gre' ? 'key' : 'vni'} ${tag}`;
}

/** Why an outer address cannot be the remote end of a tunnel of this gateway: of another family, or its own; undefined when it can. */
export function underlayMismatch(gateway: Gateway, remote: string): Finding | undefined {
  const own = parseAddress(gateway.underlay.address);
  const other = parseAddress(remote);
  const ours = own?.family;
  if (own !== undefined && ours === other?.family && own.value === other?.value)
    return {
      code: 'tunnel_to_itself',
      message: `is ${gateway.name}'s own underlay address: the tunnel would lead to itself`,
      remedy: 'give the address of the other end',
    };
  if (ours === other?.family) return undefined;
  const message = `is not of the address family of ${gateway.name}'s underlay ${gateway.underlay.address}`;
  return { code: 'family_mismatch', message, remedy: `give an IPv${ours} address` };
}

/** The uses that devices, VLANs and tunnels of one gateway already have. */
export class Uses {
  private readonly taken = new Map<string, string>();

  /** Takes a device (or one VLAN on it); returns the earlier use when it is taken. */
  take(what: string, by: string): string | undefined {
    const earlier = this.taken.get(what);
    if (earlier === undefined) this.taken.set(what, by);
    return earlier;
  }
}

interface VlanTags {
  readonly vlan?: number | undefined;
  readonly outerVlan?: number | undefined;
}

/** A service tag stands in front of a VLAN tag, never alone. */
export function loneOuterVlan({ vlan, outerVlan }: VlanTags): Finding | undefined {
  if (outerVlan === undefined || vlan !== undefined) return undefined;
  return {
    code: 'outer_vlan_alone',
    message: 'is the service tag in front of a VLAN tag, and no vlan is given',
    remedy: 'add vlan, or write vlan instead of outerVlan for a single tag',
  };
}

/** Key of a device, or of one VLAN on it, in Uses. */
export function deviceKey(device: string, { vlan, outerVlan }: VlanTags): string {
  if (vlan === undefined) return device;
  return `${device} VLAN ${outerVlan === undefined ? '' : `${outerVlan}.`}${vlan}`;
}

function checkVti(
  placed: Placed<Gateway>,
  index: number,
  port: Extract<Port, { kind: 'vti' }>,
  report: Report,
  uses: Uses,
) {
  const at = ['ports', index];
  const earlier = uses.take(tunnelKey(port.tunnel), `port "${port.name}"`);
  if (earlier !== undefined)
    report.row('gateways', placed, [...at, 'tunnel'], {
      code: 'duplicate_tunnel',
      message: `is the same tunnel as that of ${earlier}`,
      remedy: 'give one of them another remote, VNI or key',
    });
  const mismatch = underlayMismatch(placed.row, port.tunnel.remote);
  if (mismatch !== undefined) report.row('gateways', placed, [...at, 'tunnel', 'remote'], mismatch);
}

function checkPort(draft: Draft, placed: Placed<Gateway>, index: number, report: Report, uses: Uses): void {
  const port = placed.row.ports[index];
  if (port === undefined) return;
  const at = ['ports', index];
  if (port.vrf !== undefined)
    checkReference(draft, report, {
      from: 'gateways',
      placed,
      path: [...at, 'vrf'],
      to: 'vrfs',
      name: port.vrf,
    });
  if (port.kind === 'service' && port.classify)
    report.row('gateways', placed, [...at, 'classify'], {
      code: 'service_port_classifies',
      message:
        'cannot be true on a port that faces a service: what comes back from a node must not be classified again',
      remedy: 'remove classify, or change the kind',
    });
  if (port.kind === 'vti') {
    checkVti(placed, index, port, report, uses);
    return;
  }
  if (port.kind === 'uplink' && port.snat !== undefined && parseAddress(port.snat)?.family !== 4)
    report.row('gateways', placed, [...at, 'snat'], {
      code: 'family_mismatch',
      message: 'is no IPv4 address, and IPv6 is not translated',
      remedy: 'give an IPv4 address, or remove snat',
    });
  const lone = loneOuterVlan(port);
  if (lone !== undefined) report.row('gateways', placed, [...at, 'outerVlan'], lone);
  const key = deviceKey(port.device, port);
  // A service port only says which VRF the device is in; the node behind it takes the device itself.
  const earlier = uses.take(port.kind === 'service' ? `service port ${key}` : key, `port "${port.name}"`);
  if (earlier === undefined) return;
  report.row('gateways', placed, [...at, 'device'], {
    code: 'device_taken',
    message: `is already the device of ${earlier}`,
    remedy: 'use another device, or a VLAN of its own for each',
  });
}

/** All checks of gateways and hosts; returns the uses of each gateway's devices and tunnels for the checks of nodes. */
export function checkPorts(draft: Draft, report: Report): ReadonlyMap<string, Uses> {
  const usesOf = new Map<string, Uses>();
  for (const placed of draft.rows.gateways) {
    const uses = new Uses();
    usesOf.set(placed.row.name, uses);
    for (const index of placed.row.ports.keys()) checkPort(draft, placed, index, report, uses);
  }
  for (const placed of draft.rows.hosts) {
    const devices = new Uses();
    for (const [index, guest] of placed.row.guests.entries()) {
      const at = ['guests', index];
      checkReference(draft, report, {
        from: 'hosts',
        placed,
        path: [...at, 'vrf'],
        to: 'vrfs',
        name: guest.vrf,
      });
      const earlier = devices.take(guest.device, `guest "${guest.name}"`);
      if (earlier !== undefined)
        report.row('hosts', placed, [...at, 'device'], {
          code: 'device_taken',
          message: `is already the device of ${earlier}`,
          remedy: 'give each guest its own device',
        });
    }
  }
  return usesOf;
}
