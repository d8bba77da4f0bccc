// SPDX-License-Identifier: Apache-2.0
// Nodes that packets reach by MAC address, in the lane `steer`: a bump in the wire, a router with two arms and one with one, and a bump on whose links
// VLANs are told apart. Their links and their programs (bpf/arms.bpf.c).
import type { LinkSpec } from '@detour/lab';

export const ARMED_KINDS = ['l2pair', 'l3', 'l3 one arm'] as const;
export type ArmedKind = (typeof ARMED_KINDS)[number];

/** A link between the gateway and the node's namespace, by the devices' names at both ends. */
interface ArmLink {
  readonly device: string;
  readonly mac: string;
  readonly nodeDevice: string;
  readonly nodeMac: string;
}

interface ArmsPlace {
  readonly program: 'bump' | 'router';
  /** Facing the uplink, facing the inside; one arm: the same twice. */
  readonly arms: readonly [ArmLink, ArmLink];
}

function armLink(name: string, index: number): ArmLink {
  const mac = (side: number): string => `02:00:00:00:0${side}:0${index}`;
  return { device: `${name}`, mac: mac(6), nodeDevice: `n-${name}`, nodeMac: mac(7) };
}

const ONE_ARM = armLink('one', 5);
export const ARM_PLACES: Readonly<Record<ArmedKind | 'vlans', ArmsPlace>> = {
  l2pair: { program: 'bump', arms: [armLink('pair-a', 1), armLink('pair-b', 2)] },
  l3: { program: 'router', arms: [armLink('router-a', 3), armLink('router-b', 4)] },
  'l3 one arm': { program: 'router', arms: [ONE_ARM, ONE_ARM] },
  vlans: { program: 'bump', arms: [armLink('vlans-a', 6), armLink('vlans-b', 7)] },
};
/** Each once. */
const ARM_LINKS = [...new Set(Object.values(ARM_PLACES).flatMap(({ arms }) => arms))];

export function armLinkSpecs(gateway: string, node: string): LinkSpec[] {
  return ARM_LINKS.map((arm) => ({
    a: { ns: gateway, device: arm.device, mac: arm.mac, txOffload: 'off' },
    b: { ns: node, device: arm.nodeDevice, mac: arm.nodeMac, txOffload: 'off' },
    mtu: 1600,
  }));
}

/** Device → program, at the gateway's end and at the node's. */
export function armPrograms(): { gateway: Record<string, 'edge'>; node: Record<string, 'bump' | 'router'> } {
  const all = Object.values(ARM_PLACES).flatMap(({ program, arms }) =>
    arms.map((arm) => [arm, program] as const),
  );
  return {
    gateway: Object.fromEntries(ARM_LINKS.map(({ device }) => [device, 'edge'])),
    node: Object.fromEntries(all.map(([{ nodeDevice }, program]) => [nodeDevice, program])),
  };
}
