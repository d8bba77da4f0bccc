// SPDX-License-Identifier: Apache-2.0
/** What a test can do to a firewall of a running lab, and ask it. */
import { join } from 'node:path';
import { Fault } from '@detour/core';
import { type BfdPeer, parseBirdSessions, parseFrrPeers } from './bfd-peers.js';
import { type ConntrackFilter, type ConntrackRow, readConntrack } from './conntrack.js';
import { firewallDevices, firewallTable } from './firewall-spec.js';
import type { Lab } from './lab.js';

export interface NftCounter {
  readonly packets: number;
  readonly bytes: number;
}

export interface Firewall {
  readonly name: string;
  /**
   * From now on nothing goes in or out on any of its devices, and its daemons go on inside; links stay up.
   * @returns when it took effect, as `performance.now()` of the caller, at most a few ms late.
   */
  silence(): Promise<number>;
  /** From now on nothing is forwarded, while the daemons go on answering. @returns as `silence`. */
  stopForwarding(): Promise<number>;
  /** From now on so many per cent of what it forwards are lost, evenly spread; its daemons lose nothing. @returns as `silence`. */
  loseForwarded(percent: number): Promise<number>;
  /** Undoes `silence`, `stopForwarding` and `loseForwarded`. */
  restore(): Promise<void>;
  conntrack(filter?: ConntrackFilter): Promise<ConntrackRow[]>;
  flushConntrack(): Promise<void>;
  /** Its rules' counters: invalid, established, forbidden, not_syn, accepted, other. */
  counters(): Promise<Record<string, NftCounter>>;
  /** Its BFD daemon's own view. */
  bfdPeers(): Promise<BfdPeer[]>;
}

const faultTables = { silent: 'detour_silent', blocked: 'detour_blocked', lossy: 'detour_lossy' } as const;

/**
 * @param ns a namespace made of `firewallNamespace`.
 * @throws Fault when the lab has no such firewall.
 */
export function openFirewall(lab: Lab, ns: string): Firewall {
  const daemon = (lab.spec.namespaces[ns]?.processes ?? []).find(
    ({ name }) => name === 'bird' || name === 'bfdd',
  );
  if (daemon === undefined)
    throw new Fault('not_found', `lab ${lab.name}: namespace '${ns}' is no firewall: it has no BFD daemon`);
  const daemonDir = join(lab.dir, ns, daemon.name);
  const load = async (rules: string): Promise<number> => {
    await lab.exec(ns, ['nft', '-f', '-'], { input: rules });
    return performance.now();
  };
  return {
    name: ns,
    silence: () => load(silentRules()),
    stopForwarding: () =>
      load(
        `table inet ${faultTables.blocked} {\n  chain forward {\n    ${dropAll('forward', '-400')}\n  }\n}\n`,
      ),
    loseForwarded: (percent) =>
      load(`table inet ${faultTables.lossy} {
  chain forward {
    type filter hook forward priority -400; policy accept;
    numgen random mod 100 < ${percent} drop
  }
}
`),
    async restore() {
      const families = [
        ['netdev', faultTables.silent],
        ['inet', faultTables.blocked],
        ['inet', faultTables.lossy],
      ];
      // Adding first makes the deletion succeed whether or not the table was there; one transaction.
      await load(
        families.map(([f, table]) => `add table ${f} ${table}\ndelete table ${f} ${table}\n`).join(''),
      );
    },
    conntrack: (filter) => readConntrack(lab, ns, filter),
    async flushConntrack() {
      await lab.exec(ns, ['conntrack', '-F']);
    },
    async counters() {
      const { stdout } = await lab.exec(ns, [
        'nft',
        '-j',
        'list',
        'counters',
        'table',
        'inet',
        firewallTable,
      ]);
      return parseCounters(stdout);
    },
    async bfdPeers() {
      if (daemon.name === 'bird') {
        const ask = ['birdc', '-s', join(daemonDir, 'bird.ctl'), 'show', 'bfd', 'sessions'];
        return parseBirdSessions((await lab.exec(ns, ask)).stdout);
      }
      const ask = ['vtysh', '--vty_socket', daemonDir, '-c', 'show bfd peers json'];
      return parseFrrPeers((await lab.exec(ns, ask)).stdout);
    },
  };
}

/** Parses `nft -j list counters`: packets and bytes by name. */
export function parseCounters(text: string): Record<string, NftCounter> {
  const { nftables } = JSON.parse(text) as { nftables: { counter?: NftCounter & { name: string } }[] };
  return Object.fromEntries(
    nftables.flatMap(({ counter }) =>
      counter ? [[counter.name, { packets: counter.packets, bytes: counter.bytes }]] : [],
    ),
  );
}

/** Ingress and egress of every device that leads out, ARP included. */
function silentRules(): string {
  const chains = [firewallDevices.underlay, firewallDevices.management].flatMap((device) =>
    ['ingress', 'egress'].map(
      (hook) => `  chain ${hook}_${device} {\n    ${dropAll(`${hook} device ${device}`, '-400')}\n  }\n`,
    ),
  );
  return `table netdev ${faultTables.silent} {\n${chains.join('')}}\n`;
}

function dropAll(hook: string, priority: string): string {
  return `type filter hook ${hook} priority ${priority}; policy drop;`;
}
