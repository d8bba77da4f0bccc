// SPDX-License-Identifier: Apache-2.0
// A network namespace of the test process's own, with the devices, routes and neighbours that the datapath's tests name.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { ifindex } from '@detour/bpf';
import koffi from 'koffi';

const CLONE_NEWNET = 0x4000_0000;

/** Devices by the part they play; `ours` of a veth pair is where the program runs. */
export const DEVICES = {
  inside: 'in0',
  outside: 'out0',
  underlay: 'ul0',
  vti: 'vt0',
  vtiInner: 'vt1',
  inject: 'inj1',
  stranger: 'str0',
  /** The two links of a bump in the wire, and our sides of the veth pairs that stand for them. */
  armA: 'la0',
  armB: 'lb0',
  linkA: 'ka1',
  linkB: 'kb1',
} as const;
export type DeviceName = keyof typeof DEVICES;

const PAIRS = [
  ['in0', 'in1'],
  ['out0', 'out1'],
  ['ul0', 'ul1'],
  ['vt0', 'vt1'],
  ['inj1', 'inj0'],
  ['str0', 'str1'],
  ['la0', 'la1'],
  ['lb0', 'lb1'],
  ['ka0', 'ka1'],
  ['kb0', 'kb1'],
] as const;

/** Hosts that the VRF's routing table (100) reaches, and the MACs of their next hops. */
export const CLIENT = { ip4: '10.1.0.5', ip6: '2001:db8:1::5', mac: '02:00:00:00:01:05' } as const;
export const SERVER = { ip4: '203.0.113.9', ip6: '2001:db8:2::9', mac: '02:00:00:00:02:fe' } as const;
/** Behind the uplink's router as SERVER is, but with a next hop that nobody has resolved. */
export const SILENT = {
  ip4: '203.0.114.9',
  via4: '198.51.100.77',
  ip6: '2001:db8:77::9',
  via6: '2001:db8:99::77',
} as const;
/** Reached through the VTI device. */
export const BRANCH = { ip4: '10.7.0.9', ip6: '2001:db8:7::9', mac: '02:00:00:00:07:09' } as const;
export const UNREACHABLE = { ip4: '203.0.115.9', ip6: '2001:db8:78::9' } as const;
export const TABLE = 100;

export function macOf(device: DeviceName): string {
  return `02:00:00:00:00:${(0x10 + Object.keys(DEVICES).indexOf(device)).toString(16)}`;
}

/** Runs lines of `ip`, those that begin with -6 last, in one process each family. */
function runIp(lines: readonly string[]): void {
  for (const family of ['-4', '-6']) {
    const mine = lines.filter((line) => line.startsWith('-6') === (family === '-6'));
    const input = mine.map((line) => `${line.replace(/^-[46] /, '')}\n`).join('');
    execFileSync('ip', [family, '-batch', '-'], { input, stdio: ['pipe', 'ignore', 'pipe'] });
  }
}

/**
 * A device that stands for a routing table, with its rules in front of all others, as tunnel-gw makes it for kernels that cannot look a
 * table up by its id. Returns its ifindex.
 */
export function makeRuleDevice(table: number): number {
  const device = `dtr${table}`;
  const lines = [`link add ${device} type veth peer name ${device}x`];
  for (const family of ['-4', '-6'])
    lines.push(
      `${family} rule add priority 1 lookup 255`,
      `${family} rule del priority 0 lookup 255`,
      `${family} rule add priority 0 iif ${device} lookup ${table}`,
      `${family} rule add priority 0 iif ${device} unreachable`,
      `${family} rule add priority 0 lookup 255`,
      `${family} rule del priority 1 lookup 255`,
    );
  runIp(lines);
  return ifindex(device);
}

/** Enters a new namespace, which ends with this process, and makes everything in it. Returns ifindexes. */
export function makeNetwork(): Readonly<Record<DeviceName, number>> {
  const unshare = koffi.load('libc.so.6').func('int unshare(int flags)');
  if (unshare(CLONE_NEWNET) !== 0)
    throw new Error('unshare of the network namespace failed: run the tests as root');
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
  writeFileSync('/proc/sys/net/ipv6/conf/all/forwarding', '1');
  const lines = ['link set lo up'];
  for (const [one, other] of PAIRS) {
    lines.push(`link add ${one} type veth peer name ${other}`);
    lines.push(`link set ${one} up`, `link set ${other} up`);
  }
  for (const name of Object.keys(DEVICES) as DeviceName[]) {
    lines.push(`link set ${DEVICES[name]} address ${macOf(name)}`);
  }
  lines.push(
    `route add 10.1.0.0/16 dev in0 table ${TABLE}`,
    `route add 10.7.0.0/16 dev vt0 table ${TABLE}`,
    `neigh add ${BRANCH.ip4} lladdr ${BRANCH.mac} dev vt0 nud permanent`,
    `-6 neigh add ${BRANCH.ip6} lladdr ${BRANCH.mac} dev vt0 nud permanent`,
    `route add default via 198.51.100.254 dev out0 onlink table ${TABLE}`,
    `route add 203.0.114.0/24 via ${SILENT.via4} dev out0 onlink table ${TABLE}`,
    `route add unreachable 203.0.115.0/24 table ${TABLE}`,
    `neigh add ${CLIENT.ip4} lladdr ${CLIENT.mac} dev in0 nud permanent`,
    `neigh add 198.51.100.254 lladdr ${SERVER.mac} dev out0 nud permanent`,
    `-6 route add 2001:db8:1::/64 dev in0 table ${TABLE}`,
    `-6 route add 2001:db8:7::/64 dev vt0 table ${TABLE}`,
    `-6 route add default via 2001:db8:99::fe dev out0 onlink table ${TABLE}`,
    `-6 route add 2001:db8:77::/64 via ${SILENT.via6} dev out0 onlink table ${TABLE}`,
    `-6 route add unreachable 2001:db8:78::/64 table ${TABLE}`,
    `-6 neigh add ${CLIENT.ip6} lladdr ${CLIENT.mac} dev in0 nud permanent`,
    `-6 neigh add 2001:db8:99::fe lladdr ${SERVER.mac} dev out0 nud permanent`,
  );
  runIp(lines);
  return Object.fromEntries(
    Object.entries(DEVICES).map(([part, device]) => [part, ifindex(device)]),
  ) as Record<DeviceName, number>;
}
