// SPDX-License-Identifier: Apache-2.0
/**
 * A firewall as data: a namespace with the kernel's VXLAN device, nftables with connection tracking, a BFD daemon on
 * the tunnel's inner address and a Prometheus node exporter. It routes what comes out of the tunnel back into it.
 */
import { tunnelMacAddress } from '@detour/contracts';
import { promptly } from './process.js';
import type { NamespaceSpec, ProcessSpec } from './spec.js';

export type BfdDaemon = 'bird' | 'frr';

export interface FirewallOptions {
  /** 1 to 8: fixes addresses and VNI (`firewallAddresses`). */
  readonly index: number;
  /** Default BIRD in odd firewalls, FRR's bfdd in even ones. */
  readonly daemon?: BfdDaemon;
  readonly bfd?: BfdTiming;
  /** TCP port that the firewall forbids; default 8081. */
  readonly forbiddenPort?: number;
  /** Bytes that its VXLAN device takes; default 1,500. */
  readonly tunnelMtu?: number;
  /** Underlay addresses of the gateways that share it, in order; default 192.0.2.1 alone. It sends a packet back to the one that it came from. */
  readonly gateways?: readonly string[];
}

export interface BfdTiming {
  /** Both directions, default 50. */
  readonly intervalMs?: number;
  /** Default 3. */
  readonly multiplier?: number;
}

/** Where the firewall with this index is found. */
export function firewallAddresses(index: number): {
  readonly name: string;
  readonly underlay: string;
  readonly management: string;
  readonly vni: number;
  /** Inner addresses of the tunnel: the gateway's and the firewall's. */
  readonly gatewayInner: string;
  readonly inner: string;
  readonly innerMac: string;
  readonly gatewayInner6: string;
  /** Static neighbour for `gatewayInner6`: an intent gives VTIs IPv4 addresses, so that nobody answers for it. */
  readonly gatewayInnerMac: string;
  readonly inner6: string;
} {
  return {
    name: `fw${index}`,
    underlay: `192.0.2.${10 + index}`,
    management: `172.30.0.${10 + index}`,
    vni: 4000 + index,
    gatewayInner: `169.254.${index}.1`,
    inner: `169.254.${index}.2`,
    innerMac: `02:fd:00:00:0${index}:02`,
    gatewayInner6: `fd00:${index}::1`,
    gatewayInnerMac: `02:fd:00:00:0${index}:01`,
    inner6: `fd00:${index}::2`,
  };
}

/** Inner addresses of the tunnel between the firewall and the gateway at this place, from 0: a /30 each. */
export function firewallPeering(
  index: number,
  place: number,
): { readonly gateway: string; readonly firewall: string } {
  const address = (host: number): string => `169.254.${index}.${4 * place + host}`;
  return { gateway: address(1), firewall: address(2) };
}

/** Names of the devices in a firewall's namespace. */
export const firewallDevices = { underlay: 'eth0', tunnel: 'vxlan0', management: 'mgmt0' } as const;

export function firewallNamespace(options: FirewallOptions): NamespaceSpec {
  const at = firewallAddresses(options.index);
  const tunnel = firewallDevices.tunnel;
  const gateways = options.gateways ?? ['192.0.2.1'];
  const [first = ''] = gateways;
  const peerings = gateways.map((_, place) => firewallPeering(options.index, place));
  return {
    vxlans: [
      {
        name: tunnel,
        vni: at.vni,
        local: at.underlay,
        remote:
          gateways.length === 1
            ? first
            : gateways.map((address) => ({ address, mac: tunnelMacAddress(address) })),
        mtu: options.tunnelMtu ?? 1500,
        mac: at.innerMac,
        addresses: [...peerings.map(({ firewall }) => `${firewall}/30`), `${at.inner6}/64`],
      },
    ],
    routes: [
      { to: 'default', via: at.gatewayInner, dev: tunnel },
      { to: '::/0', via: at.gatewayInner6, dev: tunnel },
      ...peerings
        .slice(1)
        .map(({ gateway }, i) => ({ to: 'default', via: gateway, dev: tunnel, table: RETURN_TABLE + i + 1 })),
    ],
    rules: peerings.slice(1).map((_, i) => ({
      iif: tunnel,
      fwmark: i + 1,
      table: RETURN_TABLE + i + 1,
      priority: RETURN_TABLE + i + 1,
    })),
    neighbours: [{ address: at.gatewayInner6, mac: at.gatewayInnerMac, dev: tunnel }],
    sysctls: {
      'net.ipv4.ip_forward': 1,
      'net.ipv6.conf.all.forwarding': 1,
      ...Object.fromEntries(
        ['all', 'default', tunnel, firewallDevices.underlay].flatMap((device) => [
          [`net.ipv4.conf.${device}.rp_filter`, 0],
          [`net.ipv4.conf.${device}.send_redirects`, 0],
        ]),
      ),
      'net.netfilter.nf_conntrack_acct': 1,
      'net.netfilter.nf_conntrack_tcp_loose': 0, // a connection in its middle is not picked up
    },
    nft: firewallRules(options.forbiddenPort ?? 8081, gateways.slice(1).map(tunnelMacAddress)),
    processes: [bfdProcess(options), nodeExporter(at.management)],
  };
}

/**
 * Routes back to gateways after the first, by the mark of what came from them by the tunnel: the packet around it inherits the mark, and a
 * rule on that alone would send it into the tunnel again.
 */
const RETURN_TABLE = 200;

/** The table whose rules filter; counters are named there. */
export const firewallTable = 'firewall';

/**
 * New TCP only by SYN, invalid packets and the forbidden port dropped; every verdict has a named counter.
 * The tunnel's outer packets and the management network are not tracked, so that tracked connections are those inspected.
 * What comes from a gateway after the first is marked with its place.
 */
function firewallRules(forbiddenPort: number, otherGateways: readonly string[]): string {
  const counters = ['invalid', 'established', 'forbidden', 'not_syn', 'accepted', 'other'];
  const { underlay, management } = firewallDevices;
  return `table inet ${firewallTable} {
${counters.map((name) => `  counter ${name} { }`).join('\n')}
  chain untracked_in {
    type filter hook prerouting priority raw; policy accept;
    iifname { ${underlay}, ${management} } notrack
  }
  chain untracked_out {
    type filter hook output priority raw; policy accept;
    oifname { ${underlay}, ${management} } notrack
  }
  chain sender {
    type filter hook prerouting priority mangle; policy accept;
${otherGateways.map((mac, i) => `    iifname ${firewallDevices.tunnel} ether saddr ${mac} meta mark set ${i + 1}`).join('\n')}
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state invalid counter name invalid drop
    ct state established,related counter name established accept
    tcp dport ${forbiddenPort} counter name forbidden drop
    tcp flags & (fin | syn | rst | ack) != syn ct state new counter name not_syn drop
    ct state new meta l4proto { tcp, udp, icmp, icmpv6 } counter name accepted accept
    counter name other
  }
}`;
}

function bfdProcess({ index, daemon, bfd, gateways }: FirewallOptions): ProcessSpec {
  const { inner } = firewallAddresses(index);
  const peerings = Array.from({ length: gateways?.length ?? 1 }, (_, place) => firewallPeering(index, place));
  const intervalMs = bfd?.intervalMs ?? 50;
  const multiplier = bfd?.multiplier ?? 3;
  if ((daemon ?? (index % 2 === 1 ? 'bird' : 'frr')) === 'bird') {
    const config = `log stderr all;
router id ${inner};
protocol device { }
protocol bfd {
  interface "${firewallDevices.tunnel}" {
    min rx interval ${intervalMs} ms;
    min tx interval ${intervalMs} ms;
    multiplier ${multiplier};
    idle tx interval 1 s;
  };
${peerings.map(({ gateway, firewall }) => `  neighbor ${gateway} dev "${firewallDevices.tunnel}" local ${firewall};`).join('\n')}
}
`;
    return {
      name: 'bird',
      argv: [
        ...promptly,
        'bird',
        '-f',
        '-c',
        '{dir}/bird.conf',
        '-s',
        '{dir}/bird.ctl',
        '-P',
        '{dir}/bird.pid',
      ],
      files: { 'bird.conf': config },
    };
  }
  // No `interface` in the peer: bfdd would want zebra, just to look the name up.
  const config = `bfd
${peerings
  .map(
    ({ gateway, firewall }) => ` peer ${gateway} local-address ${firewall}
  detect-multiplier ${multiplier}
  receive-interval ${intervalMs}
  transmit-interval ${intervalMs}
  no shutdown
 exit`,
  )
  .join('\n')}
exit
`;
  const paths = [
    '--bfdctl',
    '{dir}/bfdd.sock',
    '--vty_socket',
    '{dir}',
    '-z',
    '{dir}/zserv.api',
    '-i',
    '{dir}/bfdd.pid',
  ];
  return {
    name: 'bfdd',
    argv: [...promptly, '/usr/lib/frr/bfdd', '-f', '{dir}/bfdd.conf', ...paths, '-P', '0', '--log', 'stdout'],
    files: { 'bfdd.conf': config },
    user: 'frr',
  };
}

function nodeExporter(address: string): ProcessSpec {
  const collectors = ['conntrack', 'cpu', 'loadavg', 'meminfo', 'netdev', 'stat'];
  return {
    name: 'node-exporter',
    argv: [
      'prometheus-node-exporter',
      `--web.listen-address=${address}:9100`,
      '--collector.disable-defaults',
      ...collectors.map((name) => `--collector.${name}`),
    ],
    readyLog: 'Listening on',
  };
}
