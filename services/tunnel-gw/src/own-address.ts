// SPDX-License-Identifier: Apache-2.0
// From which address the gateway speaks to somebody in a VRF. Pure.
import { isMappedV4, parseAddress, parsePrefix, prefixContains } from '@detour/core';
import type { LinkState } from './devices.js';
import type { GatewayModel, PortModel } from './model.js';

/** An address, and the number of a port of its VRF, by whose routing table the packet is to leave. */
export interface OwnAddress {
  readonly address: string;
  readonly port: number;
}

/** RFC 7600 4.8: what an ICMPv4 error may come from when there is no address; nobody answers to it. */
export const DUMMY_IPV4 = '192.0.0.8';

/**
 * Where the packet came in is where the answer comes from, if that port has an address of the right family; better yet one of the
 * network of `towards`. Null: the VRF has no port, or for IPv6 no address that is more than link-local.
 */
export function ownAddress(
  { model, links }: { readonly model: GatewayModel; readonly links: ReadonlyMap<string, LinkState> },
  { vrf, entry, towards }: { readonly vrf: number; readonly entry: number; readonly towards: string },
): OwnAddress | null {
  const to = parseAddress(towards);
  const ports = model.ports.filter((port) => port.vrf === vrf);
  const [anyPort] = ports;
  if (to === null || anyPort === undefined) return null;
  const v4 = isMappedV4(to);
  const worth = (port: PortModel, cidr: string): number => {
    const prefix = parsePrefix(cidr);
    return (port.number === entry ? 2 : 0) + (prefix !== null && prefixContains(prefix, to) ? 1 : 0);
  };
  let best: (OwnAddress & { readonly worth: number }) | null = null;
  for (const port of ports) {
    for (const cidr of links.get(port.device)?.addresses ?? []) {
      const address = cidr.slice(0, cidr.indexOf('/'));
      if (address.includes(':') === v4 || address.startsWith('fe80:')) continue;
      const found = { address, port: port.number, worth: worth(port, cidr) };
      if (best === null || found.worth > best.worth) best = found;
    }
  }
  if (best !== null) return { address: best.address, port: best.port };
  return v4 ? { address: DUMMY_IPV4, port: anyPort.number } : null;
}
