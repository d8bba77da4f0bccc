// SPDX-License-Identifier: Apache-2.0
// Which sessions a gateway must run, read from a revision of the intent: one for each node that it reaches by tunnel and whose health is asked for.

import { GWLB_INNER_ADDRESS, vtiDeviceName } from '@detour/contracts';
import { Fault } from '@detour/core';
import type { HealthProfile, Revision, ServiceNode } from '@detour/intent';
import type { SessionSpec } from './loop-messages.js';
import { canonicalAddress } from './netlink-wire.js';

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
    const number = numbers.nodes[node.name];
    if (profile === undefined || number === undefined) {
      const what = profile === undefined ? `health profile ${node.health}` : 'number';
      throw new Fault(
        'internal',
        `revision ${revision.revision}: node ${node.name} has no ${what}; apply it again`,
      );
    }
    return sessionOf({ node, profile, number, gateway });
  });
}

function sessionOf(given: {
  readonly node: ServiceNode;
  readonly profile: HealthProfile;
  readonly number: number;
  readonly gateway: string;
}): SessionSpec[] {
  const { node, profile, number, gateway } = given;
  const ends = innerEnds(node.attach, gateway);
  if (ends === null) return [];
  const { bfd, tcp } = profile;
  return [
    {
      id: node.name,
      node: node.name,
      vrf: ends.vrf,
      device: vtiDeviceName(node.name, number),
      local: canonicalAddress(ends.local),
      peer: canonicalAddress(ends.peer),
      timers: {
        desiredMinTxUs: bfd.minTxMs * 1000,
        requiredMinRxUs: bfd.minRxMs * 1000,
        detectMult: bfd.multiplier,
      },
      echo:
        bfd.echo === undefined ? null : { everyUs: bfd.echo.everyMs * 1000, multiplier: bfd.echo.multiplier },
      ...(node.attach.kind === 'gwlb' && { noControl: true }),
      ...(tcp && { tcp: { address: ends.remote, ...tcp } }),
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
