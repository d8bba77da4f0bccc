// SPDX-License-Identifier: Apache-2.0
/**
 * A service node as operators run one: a namespace with an underlay device, nftables with connection tracking between the two sides of the pair, and
 * `detour node attach` beside it, which makes the pair.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Lab } from './lab.js';
import { type LabProcess, promptly } from './process.js';
import type { LabSpec } from './spec.js';
import { managementLink, underlayLink } from './standard-lab.js';
import { waitFor } from './wait.js';

const main = fileURLToPath(new URL('../../../cli/dist/main.js', import.meta.url));

export interface ServiceNodeOptions {
  /** Name of node and namespace. */
  readonly name: string;
  /** IPv4, of 192.0.2.0/24. */
  readonly underlay: string;
  /** Of 172.30.0.0/24. */
  readonly management: string;
  /** TCP port that its firewall forbids; default 8081. */
  readonly forbiddenPort?: number;
}

/** Adds the namespace of a service node to the standard lab. */
export function withServiceNode(spec: LabSpec, options: ServiceNodeOptions): LabSpec {
  const { name, underlay, management } = options;
  return {
    namespaces: {
      ...spec.namespaces,
      [name]: {
        nft: filterBetween({
          in: [`${name}-in`, 'br-fw'],
          out: [`${name}-out`, 'br-fw'],
          untracked: ['eth0', 'mgmt0', `${name}-link`],
          forbiddenPort: options.forbiddenPort ?? 8081,
        }),
        sysctls: { 'net.netfilter.nf_conntrack_tcp_loose': 0 },
      },
    },
    links: [
      ...spec.links,
      underlayLink({ ns: name, addresses: [`${underlay}/24`] }, 1600),
      managementLink(name, management),
    ],
  };
}

/** Two sides, each a device or the bridge that hands it to the same chains (br_netfilter). */
export interface FilterSides {
  readonly in: readonly string[];
  readonly out: readonly string[];
  readonly untracked: readonly string[];
  readonly forbiddenPort: number;
}

/** What crosses from side to side is filtered, with connection tracking; every verdict has a counter. */
export function filterBetween({ in: one, out, untracked, forbiddenPort }: FilterSides): string {
  const counters = ['invalid', 'established', 'forbidden', 'accepted', 'other'];
  const set = (devices: readonly string[]) => `{ ${devices.join(', ')} }`;
  return `table inet firewall {
${counters.map((counter) => `  counter ${counter} { }\n`).join('')}
  chain untracked {
    type filter hook prerouting priority raw; policy accept;
    iifname ${set(untracked)} notrack
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state invalid counter name invalid drop
    ct state established,related counter name established accept
    tcp dport ${forbiddenPort} counter name forbidden drop
    iifname ${set(one)} oifname ${set(out)} ct state new counter name accepted accept
    counter name other
  }
}`;
}

/** What `detour node status` says, as far as tests and the demo look at it. */
export interface AttachedNodeStatus {
  readonly node: string;
  readonly state: 'up' | 'down';
  readonly why: string;
  readonly devices: Readonly<Record<string, string>>;
  readonly gateways: readonly {
    readonly gateway: string;
    readonly state: 'up' | 'down';
    readonly why: string;
    readonly bfd: { readonly state: string; readonly diag: string } | null;
    readonly packetsIn: number;
    readonly packetsBack: number;
    readonly echoesIn: number;
    readonly echoesBack: number;
    readonly dropped: number;
  }[];
  readonly drops: Readonly<Record<string, number>>;
  readonly report: string | null;
}

export interface NodeAttach extends AsyncDisposable {
  readonly process: LabProcess;
  /** SIGTERM; resolves when it has taken down what it made and ended. */
  stop(): Promise<void>;
  status(): Promise<AttachedNodeStatus>;
  /** Resolves when its state is this one and its reason contains the text. @throws Fault `timeout` with what it said last */
  become(state: 'up' | 'down', why?: string, timeoutMs?: number): Promise<AttachedNodeStatus>;
}

/**
 * Starts `detour node attach --config` in a namespace; resolves when it answers `detour node status`.
 * @param config the document, with its `node`; see docs/attach-a-node.md
 * @throws Fault `unavailable` with its log when it ends at once
 */
export async function startNodeAttach(
  lab: Lab,
  ns: string,
  config: { readonly node: string } & Readonly<Record<string, unknown>>,
): Promise<NodeAttach> {
  const dir = join(lab.dir, `${ns}-run`);
  mkdirSync(dir, { recursive: true });
  const file = join(dir, `${config.node}.yaml`);
  writeFileSync(file, JSON.stringify(config));
  const env = { DETOUR_RUN_DIR: dir };
  const child = lab.spawn(ns, [...promptly, process.execPath, main, 'node', 'attach', '--config', file], {
    name: `attach-${config.node}`,
    env,
  });
  const ask = (args: readonly string[]) =>
    lab.exec(ns, [process.execPath, main, 'node', 'status', '--node', config.node, ...args], {
      env,
      okCodes: 'any',
    });
  const status = async (): Promise<AttachedNodeStatus> => {
    const { stdout, stderr } = await ask(['-o', 'json']);
    if (stdout === '') throw new Error(`detour node status: ${stderr}; log: ${child.log().slice(-1_000)}`);
    const [first] = JSON.parse(stdout) as AttachedNodeStatus[];
    if (first === undefined) throw new Error(`detour node status has no row: ${stdout}`);
    return first;
  };
  await waitFor(
    async () => {
      if (!child.isRunning()) throw new Error(`detour node attach ended: ${child.log().slice(-1_000)}`);
      return (await ask(['-o', 'json'])).stdout !== '';
    },
    { what: `detour node status in ${ns}`, timeoutMs: 20_000, everyMs: 100 },
  );
  const stop = async (): Promise<void> => {
    child.signal('SIGTERM');
    await waitFor(() => !child.isRunning(), { what: `detour node attach in ${ns} to end`, everyMs: 20 });
  };
  return {
    process: child,
    stop,
    status,
    become: async (state, why = '', timeoutMs = 20_000) => {
      let last: AttachedNodeStatus | undefined;
      await waitFor(
        async () => {
          last = await status();
          return last.state === state && last.why.includes(why);
        },
        { what: `${config.node} to be ${state} ${why}`, timeoutMs, everyMs: 100 },
      ).catch((cause: unknown) => {
        throw new Error(`${config.node}: ${JSON.stringify(last)}`, { cause });
      });
      if (last === undefined) throw new Error('no status was read');
      return last;
    },
    [Symbol.asyncDispose]: stop,
  };
}
