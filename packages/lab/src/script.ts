// SPDX-License-Identifier: Apache-2.0
/** Turns a lab's data into the few command scripts that build it; pure. */
import type { LabSpec, LinkEnd, LinkSpec, NamespaceSpec, RouteSpec, RuleSpec, VxlanSpec } from './spec.js';

/** Where a VXLAN device sends what is for one of several remote ends, and to all of them what is for nobody it knows. */
function forwardingLines({ name, remote }: VxlanSpec): string[] {
  if (typeof remote === 'string') return [];
  return remote.flatMap(({ address, mac }) => [
    `fdb append 00:00:00:00:00:00 dev ${name} dst ${address} self permanent`,
    `fdb replace ${mac} dev ${name} dst ${address} self permanent`,
  ]);
}

/** Lines for one `ip -batch` in the host's namespace: every namespace and every veth pair of the lab. */
export function topologyBatch(spec: LabSpec, netns: (ns: string) => string): string {
  const spaces = Object.keys(spec.namespaces).map((ns) => `netns add ${netns(ns)}`);
  const links = spec.links.map((link, at) => {
    const mtu = link.mtu ?? 1500;
    const end = ({ ns, device, mac }: LinkEnd, index: number): string =>
      `${device} index ${index} netns ${netns(ns)} ${mac ? `address ${mac} ` : ''}mtu ${mtu}`;
    // Where both ends have the same index (usual in fresh namespaces), the kernel takes the device for one without a
    // peer and may report its carrier a second late (net/core/link_watch.c, linkwatch_urgent_event).
    return `link add name ${end(link.a, 10 + 2 * at)} type veth peer name ${end(link.b, 11 + 2 * at)}`;
  });
  return lines([...spaces, ...links]);
}

/**
 * A shell script, run inside one namespace, that makes its devices, addresses, routes and rules.
 * `xdpPass` is the path of the compiled program that passes everything.
 */
export function namespaceScript(
  ns: string,
  spec: NamespaceSpec,
  links: readonly LinkSpec[],
  xdpPass: string,
): string {
  const ends = links.flatMap((link) => [link.a, link.b]).filter((end) => end.ns === ns);
  const batch = [
    'link set lo up',
    ...(spec.bridges ?? []).flatMap((bridge) => [
      `link add name ${bridge.name} ${bridge.mtu ? `mtu ${bridge.mtu} ` : ''}type bridge forward_delay 0 mcast_snooping 0`,
      ...addressLines(bridge.name, bridge.addresses),
      `link set dev ${bridge.name} up`,
    ]),
    ...ends.flatMap((end) => [
      ...(end.bridge ? [`link set dev ${end.device} master ${end.bridge}`] : []),
      ...addressLines(end.device, end.addresses),
      ...(end.xdpPass ? [`link set dev ${end.device} xdpdrv obj ${xdpPass} sec xdp`] : []),
      `link set dev ${end.device} up`,
    ]),
    ...(spec.vxlans ?? []).flatMap((vxlan) => [
      `link add name ${vxlan.name} ${vxlan.mac ? `address ${vxlan.mac} ` : ''}mtu ${vxlan.mtu ?? 1500} type vxlan ` +
        `id ${vxlan.vni} local ${vxlan.local} ${typeof vxlan.remote === 'string' ? `remote ${vxlan.remote} ` : ''}` +
        `dstport ${vxlan.port ?? 4789} noudpcsum nolearning`,
      ...addressLines(vxlan.name, vxlan.addresses),
      `link set dev ${vxlan.name} up`,
    ]),
    ...(spec.neighbours ?? []).map(
      (n) => `neighbour replace ${n.address} lladdr ${n.mac} dev ${n.dev} nud permanent`,
    ),
    ...(spec.routes ?? []).map(routeLine),
    ...(spec.rules ?? []).filter(({ family }) => family !== 6).map(ruleLine),
  ];
  const batch6 = (spec.rules ?? []).filter(({ family }) => family === 6).map(ruleLine);
  const forwarding = (spec.vxlans ?? []).flatMap(forwardingLines);
  const offloadOff = [
    ...ends.filter((end) => end.txOffload === 'off').map((end) => end.device),
    ...(spec.vxlans ?? []).map((vxlan) => vxlan.name),
  ];
  return lines([
    'set -e',
    // A new namespace takes its IPv4 settings from the host's, and a host with a container engine on it routes: a client that did
    // would send every packet that is not its own back where it came from. So does br_netfilter show bridged frames to nftables.
    'echo 0 >/proc/sys/net/ipv4/ip_forward',
    'for f in /proc/sys/net/ipv4/conf/*; do echo 0 >$f/rp_filter; echo 0 >$f/accept_local; done',
    'for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done',
    // Duplicate address detection would keep IPv6 addresses unusable for a second; router solicitations are noise.
    'for f in /proc/sys/net/ipv6/conf/*; do echo 0 >$f/accept_dad; echo 0 >$f/router_solicitations; done',
    ...heredoc('ip -batch -', batch),
    ...(batch6.length > 0 ? heredoc('ip -6 -batch -', batch6) : []),
    ...(forwarding.length > 0 ? heredoc('bridge -batch -', forwarding) : []),
    ...offloadOff.map((device) => `ethtool -K ${device} tx off >/dev/null`),
    ...ends
      .filter((end) => end.vlanOffload === 'off')
      .map((end) => `ethtool -K ${end.device} ${inlineTags} >/dev/null`),
    ...Object.entries(spec.sysctls ?? {}).map(
      ([key, value]) => `echo '${value}' >/proc/sys/${key.replaceAll('.', '/')}`,
    ),
    ...(spec.nft ? heredoc('nft -f -', [spec.nft]) : []),
  ]);
}

/** 802.1Q and 802.1ad tags stay in the frame, in both directions. */
const inlineTags = 'rxvlan off txvlan off tx-vlan-stag-hw-insert off rx-vlan-stag-hw-parse off';

function addressLines(device: string, addresses: readonly string[] = []): string[] {
  return addresses.map((a) => `address add ${a} dev ${device}${a.includes(':') ? ' nodad' : ''}`);
}

function routeLine(route: RouteSpec): string {
  const parts = ['route add', route.to];
  if (route.via) parts.push('via', route.via);
  if (route.dev) parts.push('dev', route.dev);
  if (route.src) parts.push('src', route.src);
  if (route.table) parts.push('table', String(route.table));
  return parts.join(' ');
}

function ruleLine(rule: RuleSpec): string {
  const parts = ['rule add'];
  if (rule.iif) parts.push('iif', rule.iif);
  if (rule.fwmark !== undefined) parts.push('fwmark', String(rule.fwmark));
  parts.push('lookup', String(rule.table), 'priority', String(rule.priority));
  return parts.join(' ');
}

function heredoc(command: string, body: readonly string[]): string[] {
  return [`${command} <<'END_OF_INPUT'`, ...body, 'END_OF_INPUT'];
}

function lines(all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}
