// SPDX-License-Identifier: Apache-2.0
/** Checks of health profiles: each has something to go by, and what it asks can be asked of the nodes that name it. */
import type { Draft, Placed, Report } from './draft.js';
import type { HealthProfile, ServiceNode } from './schema.js';

export function checkProfile(placed: Placed<HealthProfile>, report: Report): void {
  const { bfd, tcp, route } = placed.row;
  if (bfd !== undefined || tcp !== undefined || route !== undefined) return;
  report.row('healthProfiles', placed, ['name'], {
    code: 'no_liveness',
    message: 'does not say how the health of a node is found out',
    remedy:
      'give it bfd (a session with the node), route (what the node advertises), tcp, or several of them',
  });
}

/** Routes need a tunnel of the node's own to lead by; what has arms is watched by BFD from arm to arm. */
export function checkProfileFits(draft: Draft, placed: Placed<ServiceNode>, report: Report): void {
  const { attach, health } = placed.row;
  const profile = draft.rows.healthProfiles.find(({ row }) => row.name === health)?.row;
  if (profile === undefined) return;
  if (profile.route !== undefined && attach.kind !== 'tunnel')
    report.row('nodes', placed, ['health'], {
      code: 'no_liveness',
      message: `asks for routes by the tunnel of the node, and attach ${attach.kind} has none that routes could lead by`,
      remedy: 'name a profile without route, or attach the node by a tunnel',
    });
  if (profile.bfd === undefined && (attach.kind === 'l2pair' || attach.kind === 'l3'))
    report.row('nodes', placed, ['health'], {
      code: 'no_liveness',
      message: `has no bfd, by which alone nodes with attach ${attach.kind} are watched`,
      remedy: 'give the profile bfd, or name another one',
    });
}
