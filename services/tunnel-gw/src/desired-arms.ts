// SPDX-License-Identifier: Apache-2.0
// Nodes that are reached by their arms (l2pair, l3), and VLAN ports: from the intent to the model.
import { linkDeviceName, linkInnerDeviceName } from '@detour/contracts';
import { Fault } from '@detour/core';
import {
  type Gateway,
  type Intent,
  type Numbers,
  nodeKey,
  nodeLabel,
  type Port,
  type ServiceNode,
} from '@detour/intent';
import { numberOf, type VrfOf } from './desired-numbers.js';
import type { ArmedNodeModel, ArmModel, ServicePort, VlanPort, VlanTags } from './model.js';

export interface NodeAsked {
  readonly node: ServiceNode;
  readonly gateway: string;
  readonly intent: Intent;
  readonly numbers: Numbers;
  readonly vrfOf: VrfOf;
}

type AttachOf<K extends ServiceNode['attach']['kind']> = Extract<ServiceNode['attach'], { kind: K }>;

/** The node in each VRF that it serves; none when it is attached elsewhere, or by other means. */
export function armedNodeModels(asked: NodeAsked): ArmedNodeModel[] {
  const { attach } = asked.node;
  if (attach.kind === 'l2pair' && attach.gateway === asked.gateway) return pairModels(asked, attach);
  if (attach.kind === 'l3' && attach.gateway === asked.gateway) return [routerModel(asked, attach)];
  return [];
}

function pairModels(asked: NodeAsked, attach: AttachOf<'l2pair'>): ArmedNodeModel[] {
  const { node, numbers } = asked;
  const vrfs = Object.entries(attach.vrfs).sort(([x], [y]) => (x < y ? -1 : 1));
  return vrfs.map(([vrf, pair]) => {
    const number = numberOf(numbers.nodes, nodeKey(node, vrf), 'node');
    const tags = { vlan: pair.vlan ?? 0, outer: pair.outerVlan ?? 0 };
    const own = { label: nodeLabel(node, vrf), number };
    // Each member also has the address that the other one takes for its next hop: so the kernel answers for it, through the node.
    const a = arm(own, 'a', { lower: attach.a.device, tags, end: pair.a, answers: pair.b.nextHop });
    const b = arm(own, 'b', { lower: attach.b.device, tags, end: pair.b, answers: pair.a.nextHop });
    return { ...common(asked, own, vrf), kind: 'l2pair', arms: [a, b] };
  });
}

function routerModel(asked: NodeAsked, attach: AttachOf<'l3'>): ArmedNodeModel {
  const { node, numbers } = asked;
  const what = `node ${node.name}`;
  if (attach.address === undefined)
    throw new Fault('refused', `${what}: attach l3 needs address, this gateway's own on ${attach.device}`);
  const own = { label: node.name, number: numberOf(numbers.nodes, node.name, 'node') };
  const untagged = { vlan: 0, outer: 0 };
  const end = { address: attach.address, nextHop: attach.nextHop };
  const one = arm(own, 'a', { lower: attach.device, tags: untagged, end });
  if (attach.deviceBack === undefined) {
    const back = { ...one, nextHop: attach.nextHopBack ?? attach.nextHop };
    return { ...common(asked, own, attach.vrf), kind: 'l3', arms: [one, back] };
  }
  if (attach.addressBack === undefined || attach.nextHopBack === undefined)
    throw new Fault('refused', `${what}: attach l3 with deviceBack needs addressBack and nextHopBack`);
  const endBack = { address: attach.addressBack, nextHop: attach.nextHopBack };
  const other = arm(own, 'b', { lower: attach.deviceBack, tags: untagged, end: endBack });
  return { ...common(asked, own, attach.vrf), kind: 'l3', arms: [one, other] };
}

interface Own {
  readonly label: string;
  readonly number: number;
}

function common({ node, intent, vrfOf }: NodeAsked, own: Own, vrfName: string | undefined) {
  const vrf = vrfOf(vrfName, `node ${node.name}`);
  const profile = intent.healthProfiles.find((row) => row.name === node.health);
  return {
    ...own,
    name: node.name,
    service: node.service,
    vrf: vrf.number,
    vrfName: vrf.name,
    table: vrf.table,
    liveness: profile !== undefined,
    adminDownAction: profile?.adminDownAction ?? 'keep',
  } as const;
}

interface ArmEnd {
  readonly lower: string;
  readonly tags: VlanTags;
  readonly end: { readonly address: string; readonly nextHop: string };
  readonly answers?: string;
}

function arm(own: Own, which: 'a' | 'b', { lower, tags, end, answers }: ArmEnd): ArmModel {
  const own1 = end.address.slice(0, end.address.indexOf('/'));
  const extra =
    answers === undefined || answers === own1 ? [] : [`${answers}/${answers.includes(':') ? 128 : 32}`];
  return {
    lower,
    tags,
    device: linkDeviceName(own.label, own.number, which),
    inner: linkInnerDeviceName(own.number, which),
    addresses: [end.address, ...extra],
    nextHop: end.nextHop,
  };
}

/** The veth pair and tags of a port that is a VLAN on its device; null where it is the device itself. */
export function vlanPort(
  port: Exclude<Port, { kind: 'vti' | 'underlay' | 'service' }>,
  number: number,
): { device: string; port: VlanPort } | null {
  if (port.vlan === undefined) return null;
  return {
    device: linkDeviceName(port.name, number, 'v'),
    port: {
      lower: port.device,
      tags: { vlan: port.vlan, outer: port.outerVlan ?? 0 },
      inner: linkInnerDeviceName(number, 'v'),
      addresses: port.addresses,
    },
  };
}

export function servicePorts(gateway: Gateway, numbers: Numbers, vrfOf: VrfOf): ServicePort[] {
  return gateway.ports.flatMap((port) =>
    port.kind !== 'service'
      ? []
      : [
          {
            name: port.name,
            number: numberOf(numbers.ports, `${gateway.name}/${port.name}`, 'port'),
            vrf: vrfOf(port.vrf, `port ${gateway.name}/${port.name}`).number,
            lower: port.device,
            tags: { vlan: port.vlan ?? 0, outer: port.outerVlan ?? 0 },
          },
        ],
  );
}
