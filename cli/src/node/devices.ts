// SPDX-License-Identifier: Apache-2.0
/**
 * The devices of an attached node: veth pairs whose near sides (`in`, `out`, `link`) are the node's and whose far sides have the program. Made, or
 * taken over from a run that ended early; removed at the end. With `forward: route` also the routing between them, in a table of its own.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Fault } from '@detour/core';
import { readIp, runIpBatch, runTool, setSysctl, tryTool } from '@detour/runtime';
import { type Arm, type Arms, releaseArms } from './arms.js';
import type { NodeConfig } from './config.js';

export interface Veth {
  /** The node's side. */
  readonly device: string;
  /** The program's. */
  readonly far: string;
  readonly mac: string;
  readonly farMac: string;
}

export interface Devices {
  readonly in: Veth;
  readonly out: Veth;
  /** None for gwlb: it has no inner addresses. */
  readonly link: Veth | null;
  /** The two sides are devices to a router: not made here. */
  readonly arms: Arms | null;
  /** Destination and source of the frames that come out of each side. */
  readonly toMac: readonly [string, string];
  readonly fromMac: readonly [string, string];
}

interface LinkRow {
  readonly ifname: string;
  readonly ifindex: number;
  readonly mtu?: number;
  readonly address?: string;
  readonly ifalias?: string;
  readonly flags?: readonly string[];
  readonly operstate?: string;
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[];
}

/** A device as it is now. */
export interface LinkState {
  readonly ifindex: number;
  readonly mtu: number;
  readonly up: boolean;
  readonly alias: string;
  readonly mac: string;
  readonly addresses: readonly string[];
  /** The same with their length. */
  readonly prefixes: readonly string[];
}

export async function readLinks(): Promise<ReadonlyMap<string, LinkState>> {
  const rows = await readIp<LinkRow>('-d', 'address', 'show');
  return new Map(
    rows.map((row) => [
      row.ifname,
      {
        ifindex: row.ifindex,
        mtu: row.mtu ?? 0,
        up: row.flags?.includes('UP') === true && row.operstate !== 'DOWN',
        alias: row.ifalias ?? '',
        mac: row.address ?? '',
        addresses: (row.addr_info ?? []).flatMap(({ local }) => (local === undefined ? [] : [local])),
        prefixes: (row.addr_info ?? []).flatMap(({ local, prefixlen }) =>
          local === undefined || prefixlen === undefined ? [] : [`${local}/${prefixlen}`],
        ),
      },
    ]),
  );
}

/** Marks what this node's command made, so that it takes over and removes nothing else. */
export function aliasOf(config: NodeConfig): string {
  return `detour-node ${config.node}`;
}

/**
 * Names and MAC addresses follow from the node's name: a restart makes the same ones.
 * @param arms of a router, once they are found
 */
export function planDevices(config: NodeConfig, arms: Arms | null = null): Devices {
  const hash = createHash('sha256').update(config.node).digest();
  const mac = (last: number) => ['02', '44', '4e', ...[...hash.subarray(0, 2)].map(hex), hex(last)].join(':');
  const far = (role: string) => `dt${hash.toString('hex').slice(0, 8)}${role}`;
  const make = (device: string, role: string, at: number): Veth => ({
    device,
    far: far(role),
    mac: mac(at),
    farMac: mac(at + 8),
  });
  const [one, two] =
    arms === null
      ? [make(config.pair.in, 'i', 1), make(config.pair.out, 'o', 2)]
      : [sideOf(arms[0]), sideOf(arms[1])];
  const routed = config.pair.forward === 'route';
  // Across a bridge frames go as on a wire: from what is behind one side to what is behind the other.
  const toMac = routed ? ([one.mac, two.mac] as const) : ([two.farMac, one.farMac] as const);
  const link = { ...make(config.pair.link, 'l', 3), mac: toMac[0] };
  return {
    in: one,
    out: two,
    link: config.attach.kind === 'gwlb' ? null : link,
    arms,
    toMac,
    fromMac: [one.farMac, two.farMac],
  };
}

/** The program sits on the device itself, the router is what it leads to. */
function sideOf({ device, mac, routerMac }: Arm): Veth {
  return { device, far: device, mac: routerMac, farMac: mac };
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}

const RULE_PRIORITY = 100;

/** Those that this command makes. */
export function vethsOf({ in: one, out, link, arms }: Devices): Veth[] {
  return [...(arms === null ? [one, out] : []), ...(link === null ? [] : [link])];
}

export interface DevicesSpec {
  readonly config: NodeConfig;
  readonly devices: Devices;
  /** Bytes of L3. */
  readonly mtu: number;
  /** Directory in which sysctls are written. */
  readonly sysctls: string;
}

/** Makes what is missing. @throws Fault `conflict` for a device of that name that is not this command's */
export async function ensureDevices(spec: DevicesSpec): Promise<void> {
  const { config, devices, mtu } = spec;
  const links = await readLinks();
  const alias = aliasOf(config);
  const lines: string[] = [];
  const made: string[] = [];
  for (const { device, far, mac, farMac } of vethsOf(devices)) {
    const link = links.get(device);
    if (link !== undefined && link.alias !== alias)
      throw new Fault(
        'conflict',
        `device ${device} exists and is not this node's: rename it, or give another name under pair`,
      );
    if (link !== undefined && links.has(far)) {
      lines.push(`link set dev ${device} mtu ${mtu} address ${mac}`, `link set dev ${far} mtu ${mtu}`);
    } else {
      if (link !== undefined) lines.push(`link del dev ${device}`);
      lines.push(
        `link add ${device} mtu ${mtu} address ${mac} type veth peer name ${far} mtu ${mtu} address ${farMac}`,
      );
      made.push(device);
    }
    // Nobody is asked for MAC addresses there, and nothing announces itself.
    const noArp = config.pair.forward === 'bridge' && device !== devices.link?.device ? '' : ' arp off';
    lines.push(`link set dev ${device} alias "${alias}" addrgenmode none${noArp} up`);
    lines.push(`link set dev ${far} addrgenmode none up`);
  }
  await runIpBatch(lines);
  for (const device of made)
    await runTool('ethtool', ['-K', device, 'tx', 'off', 'tso', 'off', 'gso', 'off']);
  await addressLink(spec);
  if (config.pair.forward === 'route' && devices.arms === null) await route(spec);
}

async function addressLink({ config, devices: { link }, sysctls }: DevicesSpec): Promise<void> {
  if (link === null) return;
  setSysctl(`net/ipv4/conf/${link.device}/rp_filter`, '0', sysctls);
  const lines = config.gateways.flatMap(({ local, peer }) =>
    local === undefined || peer === undefined
      ? []
      : [
          `address replace ${local}/${bits(local)} dev ${link.device}${local.includes(':') ? ' nodad' : ''}`,
          `route replace ${peer}/${bits(peer)} dev ${link.device} src ${local}`,
        ],
  );
  await runIpBatch(lines);
}

function bits(address: string): number {
  return address.includes(':') ? 128 : 32;
}

/** What comes out of one side is routed to the other; the node's other traffic keeps its routes. */
async function route({ config, devices, sysctls }: DevicesSpec): Promise<void> {
  const { table, ipv6 } = config.pair;
  const ways = [
    { from: devices.in.device, to: devices.out.device, table },
    { from: devices.out.device, to: devices.in.device, table: table + 1 },
  ];
  await keepSourceChecks(sysctls);
  for (const { from } of ways) {
    setSysctl(`net/ipv4/conf/${from}/rp_filter`, '0', sysctls);
    setSysctl(`net/ipv4/conf/${from}/forwarding`, '1', sysctls);
  }
  if (ipv6) setSysctl('net/ipv6/conf/all/forwarding', '1', sysctls);
  await removeRules(config, devices);
  for (const family of ipv6 ? (['-4', '-6'] as const) : (['-4'] as const))
    await runIpBatch(
      ways.flatMap((way) => [
        `route replace default dev ${way.to} table ${way.table}`,
        `rule add iif ${way.from} lookup ${way.table} priority ${RULE_PRIORITY}`,
      ]),
      family,
    );
}

/**
 * The check of source addresses must be off on the two sides, where every source comes from anywhere, and the kernel takes the stricter of `all` and
 * the device's own: what `all` asks for is asked of each other device by itself, and of those to come.
 */
async function keepSourceChecks(sysctls: string): Promise<void> {
  const read = (device: string) =>
    Number(readFileSync(`/proc/sys/net/ipv4/conf/${device}/rp_filter`, 'utf8').trim());
  const all = read('all');
  if (all === 0) return;
  for (const device of ['default', ...(await readLinks()).keys()])
    if (read(device) < all) setSysctl(`net/ipv4/conf/${device}/rp_filter`, String(all), sysctls);
  setSysctl('net/ipv4/conf/all/rp_filter', '0', sysctls);
}

async function removeRules(config: NodeConfig, devices: Devices): Promise<void> {
  const { table, ipv6 } = config.pair;
  for (const family of ipv6 ? ['-4', '-6'] : ['-4'])
    for (const [device, number] of [
      [devices.in.device, table],
      [devices.out.device, table + 1],
    ] as const) {
      const line = [
        family,
        'rule',
        'del',
        'iif',
        device,
        'lookup',
        String(number),
        'priority',
        String(RULE_PRIORITY),
      ];
      while ((await tryTool('ip', line)).failure === null);
    }
}

/** All that this command made, and nothing else; also what an earlier run left. */
export async function removeDevices(config: NodeConfig, devices: Devices): Promise<void> {
  if (config.pair.arms !== undefined) await releaseArms(config.pair.arms);
  else if (config.pair.forward === 'route') await removeRules(config, devices);
  const links = await readLinks();
  const ours = vethsOf(devices).filter(({ device }) => links.get(device)?.alias === aliasOf(config));
  await runIpBatch(ours.map(({ device }) => `link del dev ${device}`));
}
