// SPDX-License-Identifier: Apache-2.0
// Which sessions a gateway must run, read from a revision of the intent: one for each node that is attached here and whose health is asked for;
// through a pair, one for each VRF, with both its ends here, for as long as a chain leads there (VRFC-10).

import { GWLB_INNER_ADDRESS, linkDeviceName, vtiDeviceName } from '@detour/contracts';
import { Fault } from '@detour/core';
import {
  type HealthProfile,
  nodeKey,
  nodeLabel,
  type Revision,
  type ServiceNode,
  type Vrf,
  vrfsOfNode,
} from '@detour/intent';
import type { SessionSpec } from './loop-messages.js';
import { canonicalAddress } from './netlink-wire.js';
import type { SessionTimers } from './session-logic.js';

/**
 * Sessions of one gateway, by node name. A pure function of the revision.
 * @throws Fault `internal` when the revision contradicts itself (a node without number, an unknown profile)
 */
export function deriveSessions(revision: Revision, gateway: string): SessionSpec[] {
  const { intent, numbers } = revision;
  const profiles = new Map(intent.healthProfiles.map((profile) => [profile.name, profile]));
  return intent.nodes.flatMap((node) => {
    if (node.health === undefined) return [];
    const profile = profiles.get(node.health);
    const given = (vrf: string): Given => {
      const number = numbers.nodes[nodeKey(node, vrf)];
      if (profile !== undefined && number !== undefined) return { node, profile, number, gateway };
      const what = profile === undefined ? `health profile ${node.health}` : 'number';
      throw new Fault(
        'internal',
        `revision ${revision.revision}: node ${node.name} has no ${what}; apply it again`,
      );
    };
    const used = intent.chains.some((chain) => chain.hops.some((hop) => hop.service === node.service));
    const { attach } = node;
    if (attach.kind === 'l3') return routerSessions(given(attach.vrf ?? ''), attach);
    if (attach.kind !== 'l2pair') return sessionOf(given(attach.vrf ?? ''), intent.vrfs);
    return used ? vrfsOfNode(node).flatMap((vrf) => pairEnds(given(vrf), attach, vrf)) : [];
  });
}

const noBfdTimers: SessionTimers = { desiredMinTxUs: 300_000, requiredMinRxUs: 300_000, detectMult: 3 };

interface Given {
  readonly node: ServiceNode;
  readonly profile: HealthProfile;
  readonly number: number;
  readonly gateway: string;
}

/** Both ends of the session through a pair in a VRF: from each member's address to its own next hop, which the other member has. */
function pairEnds(
  { node, profile, number, gateway }: Given,
  attach: Extract<ServiceNode['attach'], { kind: 'l2pair' }>,
  vrf: string,
): SessionSpec[] {
  const pair = attach.vrfs[vrf];
  if (attach.gateway !== gateway || pair === undefined) return [];
  const address = { a: addressOf(pair.a.address), b: addressOf(pair.b.address) };
  return (['a', 'b'] as const).map((end) => ({
    id: `${node.name}/${vrf}/${end}`,
    node: node.name,
    vrf,
    end,
    device: linkDeviceName(nodeLabel(node, vrf), number, end),
    local: address[end],
    peer: canonicalAddress(pair[end].nextHop),
    hears: address[end === 'a' ? 'b' : 'a'],
    timers: timersOf(profile),
    multihop: null,
    echo: null,
  }));
}

/**
 * Of a router: with two arms both ends of a session from one to the other, over its hop (RFC 5883); with one arm a session with the
 * router itself, and echo where it is asked for.
 */
function routerSessions(
  { node, profile, number, gateway }: Given,
  attach: Extract<ServiceNode['attach'], { kind: 'l3' }>,
): SessionSpec[] {
  const { address, addressBack, nextHop, nextHopBack } = attach;
  if (attach.gateway !== gateway || address === undefined) return [];
  const vrf = attach.vrf ?? '';
  const common = { node: node.name, vrf, timers: timersOf(profile) };
  if (attach.deviceBack === undefined || addressBack === undefined || nextHopBack === undefined)
    return [
      {
        ...common,
        id: node.name,
        device: linkDeviceName(node.name, number, 'a'),
        local: addressOf(address),
        peer: canonicalAddress(nextHop),
        hears: canonicalAddress(nextHop),
        end: null,
        multihop: null,
        echo: echoOf(profile),
      },
    ];
  const ends = {
    a: { own: addressOf(address), nextHop: canonicalAddress(nextHop) },
    b: { own: addressOf(addressBack), nextHop: canonicalAddress(nextHopBack) },
  };
  return (['a', 'b'] as const).map((end) => {
    const far = ends[end === 'a' ? 'b' : 'a'].own;
    return {
      ...common,
      id: `${node.name}/${vrf}/${end}`,
      device: linkDeviceName(node.name, number, end),
      local: ends[end].own,
      peer: ends[end].nextHop,
      hears: far,
      end,
      multihop: { to: far },
      echo: null,
    };
  });
}

function echoOf({ bfd }: HealthProfile): SessionSpec['echo'] {
  const echo = bfd?.echo;
  return echo === undefined ? null : { everyUs: echo.everyMs * 1000, multiplier: echo.multiplier };
}

function addressOf(withPrefix: string): string {
  return canonicalAddress(withPrefix.split('/')[0] ?? '');
}

function timersOf({ bfd }: HealthProfile): SessionTimers {
  if (bfd === undefined) return noBfdTimers; // nothing is sent by them
  return {
    desiredMinTxUs: bfd.minTxMs * 1000,
    requiredMinRxUs: bfd.minRxMs * 1000,
    detectMult: bfd.multiplier,
  };
}

function sessionOf(given: Given, vrfs: readonly Vrf[]): SessionSpec[] {
  const { node, profile, number, gateway } = given;
  const ends = innerEnds(node.attach, gateway);
  if (ends === null) return [];
  const { tcp, route } = profile;
  const table = vrfs.find(({ name }) => name === ends.vrf)?.table;
  return [
    {
      id: node.name,
      node: node.name,
      vrf: ends.vrf,
      device: vtiDeviceName(node.name, number),
      local: canonicalAddress(ends.local),
      peer: canonicalAddress(ends.peer),
      hears: canonicalAddress(ends.peer),
      end: null,
      multihop: null,
      timers: timersOf(profile),
      echo: echoOf(profile),
      ...((node.attach.kind === 'gwlb' || profile.bfd === undefined) && { noControl: true }),
      ...(tcp && { tcp: { address: ends.remote, ...tcp } }),
      ...(route && table !== undefined && { route: { table, prefixes: route.prefixes } }),
    },
  ];
}

interface InnerEnds {
  readonly vrf: string;
  readonly local: string;
  readonly peer: string;
  readonly remote: string;
}

/** Between which addresses liveness is asked for inside the node's tunnel at this gateway; null when it is not attached here by one. */
function innerEnds(attach: ServiceNode['attach'], gateway: string): InnerEnds | null {
  if (attach.kind === 'gwlb') {
    if (!(attach.gateways ?? []).includes(gateway)) return null;
    const local = GWLB_INNER_ADDRESS;
    return { vrf: attach.vrf ?? '', local, peer: local, remote: attach.remote };
  }
  if (attach.kind !== 'tunnel') return null;
  const inner = attach.gateways[gateway];
  if (inner === undefined) return null;
  const local = inner.local.split('/')[0] ?? '';
  return { vrf: attach.vrf ?? '', local, peer: inner.peer, remote: attach.remote };
}
