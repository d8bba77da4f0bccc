// SPDX-License-Identifier: Apache-2.0
/** For tests of commands: a console that keeps what is written, and a small intent document. */
import type { Console } from './console.js';
import { runCli } from './run-cli.js';

/** A console on a NATS server, with `input` as standard input. */
export function consoleAt(natsUrl: string, write: Pick<Console, 'out' | 'err'>, input = ''): Console {
  return {
    ...write,
    env: { DETOUR_NATS: natsUrl, DETOUR_AUTHOR: 'tester' },
    signal: new AbortController().signal,
    readInput: async () => input,
  };
}

/** A console that writes nowhere. */
export function quietConsoleAt(natsUrl: string): Console {
  return consoleAt(natsUrl, { out: () => {}, err: () => {} });
}

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs one command line on a NATS server. */
export async function runAt(natsUrl: string, args: readonly string[], input = ''): Promise<Ran> {
  let out = '';
  let err = '';
  const write = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
  };
  const code = await runCli(args, consoleAt(natsUrl, write, input));
  return { code, out, err };
}

/** Two firewalls on one gateway; `capacity` makes documents differ. */
export function intentText(options: { capacity?: number; nodes?: readonly string[] } = {}): string {
  const { capacity = 100, nodes = ['fw1', 'fw2'] } = options;
  const rows = nodes.map(
    (
      name,
      i,
    ) => `  - { name: ${name}, service: firewall, health: fast, capacity: ${capacity}, attach: { kind: tunnel, protocol: vxlan,
      remote: 192.0.2.${11 + i}, vni: ${4001 + i}, gateways: { edge1: { local: 169.254.${i}.1/30, peer: 169.254.${i}.2 } } } }`,
  );
  return `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }]
gateways:
  - name: edge1
    underlay: { device: eth0, address: 192.0.2.1 }
    ports: [{ name: inside, kind: internal, device: eth1, vrf: red, classify: true }]
healthProfiles: [{ name: fast, bfd: {} }]
services: [{ name: firewall }]
nodes:
${rows.join('\n')}
chains: [{ name: inspect, hops: [firewall] }]
rules: [{ name: web, priority: 1, match: { vrf: red, protocol: tcp, destinationPorts: [80] }, action: { chain: inspect } }]
`;
}
