// SPDX-License-Identifier: Apache-2.0
/** Checks of how nodes are attached: gateways and hosts exist, next hops are in their subnets, devices and tunnels have one use. */
import {
  formatAddress,
  formatPrefix,
  networkOf,
  parseAddress,
  parsePrefix,
  prefixContains,
} from './address.js';
import { checkReference } from './check-names.js';
import { deviceKey, loneOuterVlan, tunnelKey, type Uses, underlayMismatch } from './check-ports.js';
import type { Draft, Finding, Placed, Report } from './draft.js';
import type { Attach, Gateway, ServiceNode } from './schema.js';

/** All that the check of one attach needs. */
export interface AttachCheck {
  readonly draft: Draft;
  readonly report: Report;
  readonly usesOf: ReadonlyMap<string, Uses>;
  readonly placed: Placed<ServiceNode>;
}

type AttachOf<K extends Attach['kind']> = Extract<Attach, { kind: K }>;

/** VRFD-7: why the peer cannot be reached from the local interface address; undefined when it can. */
function subnetFinding(local: string, peer: string, word: string): Finding | undefined {
  const subnet = parsePrefix(local);
  const other = parseAddress(peer);
  if (subnet === undefined || other === undefined) return undefined;
  if (subnet.family === other.family && subnet.value === other.value)
    return {
      code: 'next_hop_subnet',
      message: 'is the local address itself',
      remedy: `give the ${word} an address of its own`,
    };
  if (prefixContains(subnet, other)) return undefined;
  const network = formatPrefix(networkOf(subnet));
  return {
    code: 'next_hop_subnet',
    message: `is not in the subnet ${network} of the local address ${formatAddress(subnet)}`,
    remedy: `choose a ${word} in ${network}, or correct the local address`,
  };
}

function gatewayNamed(draft: Draft, name: string): Gateway | undefined {
  return draft.rows.gateways.find(({ row }) => row.name === name)?.row;
}

function takeDevice(
  check: AttachCheck,
  gateway: string,
  what: string,
  path: readonly PropertyKey[],
  vrf?: string,
): void {
  const { report, usesOf, placed } = check;
  const earlier = usesOf.get(gateway)?.take(what, `node "${placed.row.name}"`);
  if (earlier === undefined || earlier === `node "${placed.row.name}"`) return;
  report.row('nodes', placed, path, {
    code: 'device_taken',
    message: `uses ${what} of ${gateway}, which is already that of ${earlier}`,
    remedy: 'use another device, or a VLAN of its own for each',
    ...(vrf === undefined ? {} : { vrf }),
  });
}

function checkTunnel(check: AttachCheck, attach: AttachOf<'tunnel'>): void {
  const { draft, report, usesOf, placed } = check;
  for (const [name, inner] of Object.entries(attach.gateways)) {
    const path = ['attach', 'gateways', name];
    if (!checkReference(draft, report, { from: 'nodes', placed, path, to: 'gateways', name, atKey: true }))
      continue;
    const gateway = gatewayNamed(draft, name);
    const mismatch = gateway === undefined ? undefined : underlayMismatch(gateway, attach.remote);
    if (mismatch !== undefined) report.row('nodes', placed, ['attach', 'remote'], mismatch);
    const finding = subnetFinding(inner.local, inner.peer, 'peer');
    if (finding !== undefined) report.row('nodes', placed, [...path, 'peer'], finding);
    const earlier = usesOf.get(name)?.take(tunnelKey(attach), `node "${placed.row.name}"`);
    if (earlier !== undefined)
      report.row('nodes', placed, ['attach'], {
        code: 'duplicate_tunnel',
        message: `is the same tunnel at ${name} as that of ${earlier}: ${tunnelKey(attach)}`,
        remedy: 'give one of them another remote, VNI or key',
      });
  }
}

/** A node on a gateway's own links is that gateway's alone: others carry its VRFs, and can take none of its flows over. */
function warnOfOthers(check: AttachCheck, own: string, vrfs: readonly string[]): void {
  const { draft, report, placed } = check;
  const others = draft.rows.gateways.flatMap(({ row }) =>
    row.name !== own && row.ports.some(({ vrf }) => vrf !== undefined && vrfs.includes(vrf))
      ? [row.name]
      : [],
  );
  if (others.length === 0) return;
  const [one, many] = others.length === 1 ? ['has', 'takes'] : ['have', 'take'];
  report.warn('nodes', placed, ['attach', 'gateway'], {
    code: 'gateway_bound',
    message: `is the only gateway of this ${placed.row.attach.kind}: flows through it end with that gateway; ${others.join(', ')} ${one} a port in the same VRF and ${many} none of them over`,
    remedy: 'attach the node by a tunnel to every gateway if its flows must outlive one',
  });
}

/** VRFC-2: where the pair's devices are declared as service ports, both must be in the VRF of the pair. */
function checkPairPorts(check: AttachCheck, attach: AttachOf<'l2pair'>, vrf: string): void {
  const { draft, report, placed } = check;
  const vrfOf = new Map<'a' | 'b', string | undefined>();
  for (const member of ['a', 'b'] as const) {
    const key = deviceKey(attach[member].device, attach.vrfs[vrf] ?? {});
    const port = gatewayNamed(draft, attach.gateway)?.ports.find(
      (candidate) => candidate.kind === 'service' && deviceKey(candidate.device, candidate) === key,
    );
    vrfOf.set(member, port?.vrf);
  }
  const [a = vrf, b = vrf] = [vrfOf.get('a'), vrfOf.get('b')];
  if (a === vrf && b === vrf) return;
  report.row('nodes', placed, ['attach', 'vrfs', vrf], {
    code: 'pair_vrf_mismatch',
    message: `is a pair for VRF ${vrf}, but ${attach.a.device} is in VRF ${a} and ${attach.b.device} in VRF ${b}`,
    remedy: 'put both members into the VRF of the pair',
    vrf,
    atKey: true,
  });
}

function checkPair(check: AttachCheck, attach: AttachOf<'l2pair'>): void {
  const { draft, report, placed } = check;
  if (
    !checkReference(draft, report, {
      from: 'nodes',
      placed,
      path: ['attach', 'gateway'],
      to: 'gateways',
      name: attach.gateway,
    })
  )
    return;
  warnOfOthers(check, attach.gateway, Object.keys(attach.vrfs));
  if (attach.a.device === attach.b.device)
    report.row('nodes', placed, ['attach', 'b', 'device'], {
      code: 'device_taken',
      message: 'is the device of both members',
      remedy: 'a pair needs two devices, one on each side of the node',
    });
  const rowOfVlan = new Map<string, string>();
  for (const [vrf, pair] of Object.entries(attach.vrfs)) {
    const path = ['attach', 'vrfs', vrf];
    if (
      !checkReference(draft, report, { from: 'nodes', placed, path, to: 'vrfs', name: vrf, vrf, atKey: true })
    )
      continue;
    for (const end of ['a', 'b'] as const) {
      const finding = subnetFinding(pair[end].address, pair[end].nextHop, 'next hop');
      if (finding !== undefined) report.row('nodes', placed, [...path, end, 'nextHop'], { ...finding, vrf });
      takeDevice(check, attach.gateway, deviceKey(attach[end].device, pair), [...path, end], vrf);
    }
    if (parsePrefix(pair.a.address)?.family !== parsePrefix(pair.b.address)?.family)
      report.row('nodes', placed, [...path, 'b', 'address'], {
        code: 'family_mismatch',
        message: 'is not of the address family of a',
        remedy: 'give both members addresses of one family',
        vrf,
      });
    const lone = loneOuterVlan(pair);
    if (lone !== undefined) report.row('nodes', placed, [...path, 'outerVlan'], { ...lone, vrf });
    const tags = deviceKey('', pair);
    const other = rowOfVlan.get(tags);
    if (other !== undefined)
      report.row('nodes', placed, path, {
        code: 'device_taken',
        message: `has the same VLAN as VRF ${other}: ${pair.vlan ?? 'untagged'}`,
        remedy: 'give each VRF its own VLAN',
        vrf,
        atKey: true,
      });
    rowOfVlan.set(tags, vrf);
    checkPairPorts(check, attach, vrf);
  }
}

function checkL3(check: AttachCheck, attach: AttachOf<'l3'>): void {
  const { draft, report, placed } = check;
  if (attach.gateway === undefined) {
    const known = [...draft.declared.gateways].sort().join(' or ');
    report.row('nodes', placed, ['attach'], {
      code: 'vrf_needed',
      message: 'does not say which gateway it is attached to',
      remedy: known === '' ? 'declare a gateway' : `add gateway: ${known}`,
    });
    return;
  }
  if (
    !checkReference(draft, report, {
      from: 'nodes',
      placed,
      path: ['attach', 'gateway'],
      to: 'gateways',
      name: attach.gateway,
    })
  )
    return;
  if (attach.vrf !== undefined) warnOfOthers(check, attach.gateway, [attach.vrf]);
  for (const key of ['device', 'deviceBack'] as const) {
    const device = attach[key];
    if (device !== undefined) takeDevice(check, attach.gateway, device, ['attach', key]);
  }
  const forward =
    attach.address === undefined ? undefined : subnetFinding(attach.address, attach.nextHop, 'next hop');
  if (forward !== undefined) report.row('nodes', placed, ['attach', 'nextHop'], forward);
  const localBack = attach.addressBack ?? attach.address;
  const back =
    localBack === undefined || attach.nextHopBack === undefined
      ? undefined
      : subnetFinding(localBack, attach.nextHopBack, 'next hop');
  if (back !== undefined) report.row('nodes', placed, ['attach', 'nextHopBack'], back);
}

/** Appliances are told apart by their address alone: what goes to them has VNI 0. */
function checkGwlb({ draft, report, usesOf, placed }: AttachCheck, attach: AttachOf<'gwlb'>): void {
  for (const [index, name] of (attach.gateways ?? []).entries()) {
    const path = ['attach', 'gateways', index];
    if (!checkReference(draft, report, { from: 'nodes', placed, path, to: 'gateways', name })) continue;
    const gateway = gatewayNamed(draft, name);
    const mismatch = gateway === undefined ? undefined : underlayMismatch(gateway, attach.remote);
    if (mismatch !== undefined) report.row('nodes', placed, ['attach', 'remote'], mismatch);
    const earlier = usesOf.get(name)?.take(`gwlb ${attach.remote}`, `node "${placed.row.name}"`);
    if (earlier !== undefined)
      report.row('nodes', placed, ['attach', 'remote'], {
        code: 'duplicate_tunnel',
        message: `is at ${name} already that of ${earlier}`,
        remedy: 'give each appliance an address of its own',
      });
  }
  const profile = draft.rows.healthProfiles.find(({ row }) => row.name === placed.row.health)?.row;
  if (profile !== undefined && profile.bfd?.echo === undefined && profile.tcp === undefined)
    report.row('nodes', placed, ['health'], {
      code: 'no_liveness',
      message: 'asks for BFD with a daemon alone, which no appliance behind gwlb runs',
      remedy:
        'give the profile tcp (a port that answers), bfd.echo (packets to ourselves through it), or both',
    });
}

/** Checks one node's attach against gateways, hosts, and what other ports and nodes use already. */
export function checkAttach(check: AttachCheck): void {
  const { draft, report, placed } = check;
  const { attach } = placed.row;
  switch (attach.kind) {
    case 'tunnel':
      checkTunnel(check, attach);
      return;
    case 'l2pair':
      checkPair(check, attach);
      return;
    case 'l3':
      checkL3(check, attach);
      return;
    case 'gwlb':
      checkGwlb(check, attach);
      return;
    case 'plane':
      checkReference(draft, report, {
        from: 'nodes',
        placed,
        path: ['attach', 'host'],
        to: 'hosts',
        name: attach.host,
      });
      return;
  }
}
