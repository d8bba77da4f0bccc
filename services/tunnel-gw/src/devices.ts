// SPDX-License-Identifier: Apache-2.0
// The network devices that a gateway makes: a veth pair for each VTI and the inject pair; kept in step with what is wanted.
import { existsSync, readFileSync } from 'node:fs';
import { INJECT_DEVICES } from '@detour/contracts';
import { Fault } from '@detour/core';
import { readIp, runIpBatch, runOnDevices, SYSCTL_DIR, setSysctl } from '@detour/runtime';

/** A VTI as a veth pair: the operator's side has name, MAC and addresses; the program runs on the inner side. */
export interface VtiDevice {
  readonly device: string;
  readonly inner: string;
  readonly mac: string;
  readonly addresses: readonly string[]; // with prefix length
  readonly mtu: number;
  readonly noArp: boolean; // the tunnel carries IP packets: there are no MAC addresses behind it
  readonly peers: readonly string[]; // without ARP: whom the kernel and BFD shall find there all the same
  /** Of a node's arm: the other end of what it sends may be on this machine too. */
  readonly arm?: boolean;
}

interface LinkRow {
  readonly ifname: string;
  readonly ifindex: number;
  readonly address?: string;
  readonly mtu?: number;
  readonly ifalias?: string;
  readonly flags?: readonly string[];
  readonly addr_info?: readonly {
    readonly local?: string;
    readonly prefixlen?: number;
    readonly scope?: string;
  }[];
}

/** Marks devices that Detour made, so that it removes no other. */
export const DEVICE_ALIAS = 'detour';

/** A device as it is now. */
export interface LinkState {
  readonly ifindex: number;
  readonly mac: string;
  readonly mtu: number;
  readonly ours: boolean;
  readonly noArp: boolean;
  readonly addresses: readonly string[];
}

/** All devices of this network namespace, by name. */
export async function readLinks(): Promise<Map<string, LinkState>> {
  const rows = await readIp<LinkRow>('-d', 'address', 'show'); // the alias is among the details;
  return new Map(
    rows.map((row) => [
      row.ifname,
      {
        ifindex: row.ifindex,
        mac: row.address ?? '',
        mtu: row.mtu ?? 0,
        ours: row.ifalias === DEVICE_ALIAS,
        noArp: row.flags?.includes('NOARP') === true,
        addresses: (row.addr_info ?? []).flatMap((a) =>
          a.local === undefined ? [] : [`${a.local}/${a.prefixlen}`],
        ),
      },
    ]),
  );
}

/**
 * Makes the VTIs and the inject pair exist as wanted; devices that are right already are not touched, so sessions over them go on.
 * Returns the links as they are afterwards.
 */
export async function ensureDevices(
  vtis: readonly VtiDevice[],
  sysctlDir: string = SYSCTL_DIR,
): Promise<Map<string, LinkState>> {
  const links = await readLinks();
  const batch: string[] = [];
  const made: string[] = [];
  const [inject, injectInner] = INJECT_DEVICES;
  if (!links.has(inject)) {
    // Nothing but held packets may enter there: no IPv6, which would announce itself when the device comes up.
    const [add = '', ...up] = makePair(inject, injectInner, null, 9000);
    await runIpBatch([add]);
    for (const device of INJECT_DEVICES) setSysctl(`net/ipv6/conf/${device}/disable_ipv6`, '1', sysctlDir);
    batch.push(...up);
    made.push(inject);
  }
  for (const vti of vtis) {
    const link = links.get(vti.device);
    if (link !== undefined && !link.ours) {
      throw new Fault(
        'conflict',
        `device ${vti.device} exists and is not Detour's: rename it, or the node or port that needs this name`,
      );
    }
    if (link === undefined) {
      batch.push(...makePair(vti.device, vti.inner, vti.mac, vti.mtu));
      made.push(vti.device);
    }
    if (link !== undefined && link.mac !== vti.mac)
      batch.push(`link set dev ${vti.device} address ${vti.mac}`);
    if (link !== undefined && link.mtu !== vti.mtu) {
      batch.push(`link set dev ${vti.device} mtu ${vti.mtu}`, `link set dev ${vti.inner} mtu ${vti.mtu}`);
    }
    // Neighbours of another kind of tunnel go with it: the kernel forgets them when ARP is switched.
    if ((link?.noArp ?? false) !== vti.noArp)
      batch.push(`link set dev ${vti.device} arp ${vti.noArp ? 'off' : 'on'}`);
    for (const peer of vti.peers)
      batch.push(`neigh replace ${peer} lladdr ${vti.mac} dev ${vti.device} nud permanent`);
    const present = (link?.addresses ?? []).filter((a) => !a.startsWith('fe80:'));
    for (const address of vti.addresses)
      if (!present.includes(address)) batch.push(`address add ${address} dev ${vti.device}`);
    for (const address of present)
      if (!vti.addresses.includes(address)) batch.push(`address del ${address} dev ${vti.device}`);
  }
  await runIpBatch(batch);
  // What leaves by this side enters the program on the other, which must see whole packets with their checksums in place.
  await runOnDevices(made, 'ethtool -K "$device" tx off tso off gso off');
  for (const device of [...vtis.map((vti) => vti.device), inject])
    setSysctl(`net/ipv4/conf/${device}/rp_filter`, '0', sysctlDir);
  for (const { device, arm } of vtis) {
    if (arm !== true) continue;
    // What crosses a node comes back from ourselves to ourselves; ARP is answered by the arm that has the address, by no other.
    setSysctl(`net/ipv4/conf/${device}/accept_local`, '1', sysctlDir);
    setSysctl(`net/ipv4/conf/${device}/arp_ignore`, '1', sysctlDir);
  }
  return batch.length === 0 ? links : readLinks();
}

/** Device group of what is to go: the kernel removes a whole group in the time of one device (400 pairs: 0.2 s instead of 7). */
const GROUP_TO_GO = 0x44545247;

/**
 * Removes VTIs that Detour made and that are not wanted any more.
 * @throws Fault `refused` when somebody else's device is in the group that Detour uses for this.
 */
export async function removeDevices(wanted: ReadonlySet<string>): Promise<string[]> {
  const [inject] = INJECT_DEVICES;
  const gone = [...(await readLinks())]
    .filter(([name, link]) => link.ours && name !== inject && !wanted.has(name))
    .map(([name]) => name);
  if (gone.length === 0) return gone;
  const inGroup = await readIp<Partial<LinkRow>>('-d', 'link', 'show', 'group', String(GROUP_TO_GO));
  // ip gives an empty object for each device of other groups
  const foreign = inGroup.find(
    ({ ifname, ifalias }) => ifname !== undefined && ifalias !== DEVICE_ALIAS,
  )?.ifname;
  if (foreign !== undefined)
    throw new Fault(
      'refused',
      `device ${foreign} is in device group ${GROUP_TO_GO}, by which Detour removes its own: put it elsewhere (ip link set dev ${foreign} group default)`,
    );
  await runIpBatch(gone.map((name) => `link set dev ${name} group ${GROUP_TO_GO}`));
  await runIpBatch([`link del group ${GROUP_TO_GO}`]);
  return gone;
}

/** Forwarding on (bpf_fib_lookup asks for it) and reverse-path filtering off, on the ports; the guard must stand before this. */
export function enableForwarding(devices: readonly string[], sysctlDir: string = SYSCTL_DIR): void {
  const set = (path: string, value: string): void => setSysctl(path, value, sysctlDir);
  set('net/ipv4/ip_forward', '1');
  set('net/ipv6/conf/all/forwarding', '1');
  set('net/ipv4/conf/all/rp_filter', '0');
  for (const device of devices) {
    set(`net/ipv4/conf/${device}/forwarding`, '1');
    set(`net/ipv6/conf/${device}/forwarding`, '1');
    set(`net/ipv4/conf/${device}/rp_filter`, '0');
  }
}

/** What else the machine may know beside our own neighbours. */
const OTHER_NEIGHBOURS = 1_024;

/**
 * The kernel's neighbour table takes 1,024 entries unless it is told more, for all namespaces together, and forgets the oldest. Its limits are raised to
 * what is wanted, never lowered. Only the machine's own namespace has these settings: elsewhere they are for whoever runs the machine.
 */
export function makeNeighbourRoom(wanted: number, sysctlDir: string = SYSCTL_DIR): void {
  const room = wanted + OTHER_NEIGHBOURS;
  for (const family of ['ipv4', 'ipv6'])
    for (const threshold of ['gc_thresh3', 'gc_thresh2', 'gc_thresh1']) {
      const path = `net/${family}/neigh/default/${threshold}`;
      if (!existsSync(`${sysctlDir}/${path}`)) continue;
      if (Number(readFileSync(`${sysctlDir}/${path}`, 'utf8')) < room)
        setSysctl(path, String(room), sysctlDir);
    }
}

function makePair(device: string, inner: string, mac: string | null, mtu: number): string[] {
  const address = mac === null ? '' : ` address ${mac}`;
  return [
    `link add ${device} mtu ${mtu}${address} type veth peer name ${inner} mtu ${mtu}`,
    `link set dev ${device} alias ${DEVICE_ALIAS}${mac === null ? ' addrgenmode none' : ''} up`,
    `link set dev ${inner} addrgenmode none up`,
  ];
}

/** VLAN tags are for the program to see: the device must leave them in the frame. @throws Fault naming a device that cannot. */
export async function keepTags(devices: Iterable<string>): Promise<void> {
  const features = ['rx-vlan-offload', 'tx-vlan-offload', 'rx-vlan-stag-hw-parse', 'tx-vlan-stag-hw-insert'];
  const off = features.map((feature) => `${feature} off`).join(' ');
  await runOnDevices([...devices], `ethtool -K "$device" ${off}`);
}
