// SPDX-License-Identifier: Apache-2.0
/**
 * A router behind the machine, with an arm on each side: devices that are the operator's, next hops whose MAC addresses the kernel keeps resolved. The
 * program gives packets to the router with those, so that it is the only hop.
 */
import { type AddressBytes, parseAddress, parsePrefix, prefixContains } from '@detour/core';
import { askIpBatch, readIp } from '@detour/runtime';
import type { NodeConfig } from './config.js';
import type { LinkState } from './devices.js';

/** Where frames to one arm of the router go. */
export interface Arm {
  readonly device: string;
  /** Of the device. */
  readonly mac: string;
  /** The machine's address beside the next hop. */
  readonly own: AddressBytes;
  readonly routerMac: string;
}
export type Arms = readonly [Arm, Arm];
export type ArmsConfig = NonNullable<NodeConfig['pair']['arms']>;

interface NeighbourRow {
  readonly dst: string;
  readonly dev: string;
  readonly lladdr?: string;
  readonly state?: readonly string[];
  readonly managed?: null;
}

const UNUSABLE = ['FAILED', 'INCOMPLETE', 'NONE'];

/** Both arms, or why one is not ready; asks the kernel to resolve a next hop that it does not. */
export async function findArms(
  config: ArmsConfig,
  links: ReadonlyMap<string, LinkState>,
): Promise<{ readonly arms: Arms } | { readonly why: string }> {
  const rows = [...(await readIp<NeighbourRow>('-4', 'neigh', 'show')), ...(await neighbours6(config))];
  const found: Arm[] = [];
  for (const { device, nextHop } of [config.in, config.out]) {
    const link = links.get(device);
    if (link === undefined) return { why: `device ${device} does not exist` };
    if (!link.up) return { why: `device ${device} is down: ip link set ${device} up` };
    const own = besideNextHop(link, nextHop);
    if (own === null)
      return {
        why: `device ${device} has no address beside next hop ${nextHop}: it has ${link.prefixes.join(', ') || 'none'}`,
      };
    const row = rows.find(({ dev, dst }) => dev === device && dst === nextHop);
    const kept = row !== undefined && ('managed' in row || row.state?.includes('PERMANENT') === true);
    if (!kept) await askIpBatch([`neigh replace ${nextHop} dev ${device} managed`], () => {});
    if (row?.lladdr === undefined || row.state?.some((state) => UNUSABLE.includes(state)))
      return { why: `next hop ${nextHop} does not answer on ${device}: look at the router's arm` };
    found.push({ device, mac: link.mac, own, routerMac: row.lladdr });
  }
  const [one, two] = found;
  return one === undefined || two === undefined ? { why: 'starting' } : { arms: [one, two] };
}

async function neighbours6(config: ArmsConfig): Promise<NeighbourRow[]> {
  const has6 = [config.in, config.out].some(({ nextHop }) => nextHop.includes(':'));
  return has6 ? readIp<NeighbourRow>('-6', 'neigh', 'show') : [];
}

function besideNextHop({ prefixes }: LinkState, nextHop: string): AddressBytes | null {
  const hop = parseAddress(nextHop);
  for (const text of prefixes) {
    const prefix = parsePrefix(text);
    if (hop !== null && prefix !== null && prefixContains(prefix, hop)) return prefix.address; // its host bits are kept
  }
  return null;
}

/** The kernel need not keep the next hops any longer that it was asked to keep. */
export async function releaseArms(config: ArmsConfig): Promise<void> {
  const rows = [...(await readIp<NeighbourRow>('-4', 'neigh', 'show')), ...(await neighbours6(config))];
  const kept = [config.in, config.out].filter(({ device, nextHop }) =>
    rows.some((row) => row.dev === device && row.dst === nextHop && 'managed' in row),
  );
  const lines = kept.map(({ device, nextHop }) => `neigh del ${nextHop} dev ${device}`);
  await askIpBatch(lines, () => {}); // a device may be gone
}
