// SPDX-License-Identifier: Apache-2.0
/** Checks of nodes: what they refer to exists, VRFs are named where needed, NAT can be followed, intervals make sense. */
import { checkAttach } from './check-attach.js';
import { checkReference } from './check-names.js';
import type { Uses } from './check-ports.js';
import { checkProfile, checkProfileFits } from './check-profiles.js';
import type { Draft, Placed, Report } from './draft.js';
import type { Attach, ServiceNode } from './schema.js';
import { isBlind } from './topology.js';

/** Devices that only this attach uses and that tell the direction of what returns: the two ends of a pair, or two arms. */
function hasPortsOfItsOwn(attach: Attach): boolean {
  return attach.kind === 'l2pair' || (attach.kind === 'l3' && attach.deviceBack !== undefined);
}

function checkNat(placed: Placed<ServiceNode>, report: Report): void {
  const { nat, attach } = placed.row;
  if (!nat || !isBlind(attach) || hasPortsOfItsOwn(attach)) return;
  report.row('nodes', placed, ['nat'], {
    code: 'blind_nat',
    message: `cannot be true with attach ${attach.kind}: a packet that returns with another 5-tuple could not be told to be of its flow`,
    remedy:
      'use an attach with metadata (gwlb, plane with nsh or qinq) or with ports of its own (l2pair, l3 with deviceBack)',
  });
}

function checkVrf(draft: Draft, placed: Placed<ServiceNode>, report: Report): void {
  const { attach } = placed.row;
  if (attach.kind === 'l2pair') return;
  if (attach.vrf !== undefined) {
    checkReference(draft, report, {
      from: 'nodes',
      placed,
      path: ['attach', 'vrf'],
      to: 'vrfs',
      name: attach.vrf,
    });
    return;
  }
  const vrfs = [...draft.declared.vrfs].sort();
  report.row('nodes', placed, ['attach'], {
    code: 'vrf_needed',
    message: vrfs.length === 0 ? 'serves no VRF: none is declared' : 'does not say which VRF it serves',
    remedy: vrfs.length === 0 ? 'declare one under vrfs:' : `add vrf: ${vrfs.join(' or ')}`,
  });
}

function checkTiming(placed: Placed<ServiceNode>, report: Report): void {
  const prometheus = placed.row.attributes.prometheus;
  if (prometheus === undefined || prometheus.staleAfter > prometheus.every) return;
  report.row('nodes', placed, ['attributes', 'prometheus', 'staleAfter'], {
    code: 'timing',
    message: 'is not longer than every: the node would be stale between any two readings',
    remedy: `choose more than ${prometheus.every}ms, three times as long for example`,
  });
}

/** All checks of nodes; `usesOf` knows which devices and tunnels of each gateway have a use already. */
export function checkNodes(draft: Draft, report: Report, usesOf: ReadonlyMap<string, Uses>): void {
  for (const placed of draft.rows.healthProfiles) checkProfile(placed, report);
  for (const placed of draft.rows.nodes) {
    const { service, health } = placed.row;
    checkReference(draft, report, {
      from: 'nodes',
      placed,
      path: ['service'],
      to: 'services',
      name: service,
    });
    if (health === undefined)
      report.warn('nodes', placed, ['name'], {
        code: 'unknown_reference',
        message: 'has no health profile: that it fails would not be seen',
        remedy: 'add health: PROFILE',
      });
    else if (
      checkReference(draft, report, {
        from: 'nodes',
        placed,
        path: ['health'],
        to: 'healthProfiles',
        name: health,
      })
    )
      checkProfileFits(draft, placed, report);
    checkVrf(draft, placed, report);
    checkNat(placed, report);
    checkTiming(placed, report);
    checkAttach({ draft, report, usesOf, placed });
  }
  for (const placed of draft.rows.services) {
    const { scoring } = placed.row;
    if (draft.scoring.has(scoring)) continue;
    report.row('services', placed, ['scoring'], {
      code: 'unknown_reference',
      message: `names the scoring "${scoring}", which does not exist`,
      remedy: `known here: ${[...draft.scoring.keys()].sort().join(', ')}`,
    });
  }
}
