// SPDX-License-Identifier: Apache-2.0
/** FRR as a router of a lab: zebra and bgpd, and bfdd where it is asked for, of one namespace, with sockets and pids in the lab's directory, so that several run side by side. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from './lab.js';
import { promptly } from './process.js';
import { waitFor } from './wait.js';

export interface FrrRouter {
  /** Runs lines in vtysh; what it says. @throws Fault */
  vtysh(lines: readonly string[]): Promise<string>;
  /** Lines of configuration, as after `configure terminal`. */
  configure(lines: readonly string[]): Promise<void>;
  /** SIGKILL to bgpd: nothing is said to peers by BGP, the kernel closes its connections. */
  killBgpd(): Promise<void>;
  startBgpd(): void;
}

/** What the daemons beside bgpd are configured with; bfdd runs only where it has a configuration. */
export interface FrrBeside {
  readonly zebra?: string;
  readonly bfdd?: string;
}

/** Resolves when all daemons answer. `bgpd`: its configuration. @throws Fault `timeout` */
export async function startFrr(
  lab: Lab,
  ns: string,
  bgpd: string,
  { zebra = '', bfdd }: FrrBeside = {},
): Promise<FrrRouter> {
  const dir = join(lab.dir, ns, 'frr');
  mkdirSync(dir, { recursive: true });
  chmodSync(dir, 0o777); // the daemons drop their privileges before they make sockets
  writeFileSync(join(dir, 'zebra.conf'), zebra);
  writeFileSync(join(dir, 'bgpd.conf'), bgpd);
  if (bfdd !== undefined) writeFileSync(join(dir, 'bfdd.conf'), bfdd);
  const start = (daemon: 'zebra' | 'bgpd' | 'bfdd') =>
    lab.spawn(
      ns,
      [
        ...promptly,
        `/usr/lib/frr/${daemon}`,
        ...['-f', join(dir, `${daemon}.conf`), '--vty_socket', dir, '-z', join(dir, 'zserv.api')],
        ...['-i', join(dir, `${daemon}.pid`), '-P', '0', '--log', 'stdout'],
        ...(daemon === 'bfdd' ? ['--bfdctl', join(dir, 'bfdd.sock')] : []),
      ],
      { name: daemon },
    );
  const run = (daemon: string, lines: readonly string[]) =>
    lab.exec(ns, ['vtysh', '--vty_socket', dir, '-d', daemon, ...lines.flatMap((line) => ['-c', line])], {
      okCodes: 'any',
    });
  const answers = async (daemon: string): Promise<void> => {
    await waitFor(async () => (await run(daemon, ['show version'])).stdout.includes('FRRouting'), {
      what: `${daemon} in ${ns} to answer`,
      everyMs: 50,
    });
  };
  start('zebra');
  await answers('zebra');
  if (bfdd !== undefined) {
    start('bfdd');
    await answers('bfdd');
  }
  start('bgpd');
  await answers('bgpd');
  const vtysh = async (lines: readonly string[]): Promise<string> =>
    (
      await lab.exec(ns, [
        'vtysh',
        '--vty_socket',
        dir,
        '-d',
        'bgpd',
        ...lines.flatMap((line) => ['-c', line]),
      ])
    ).stdout;
  return {
    vtysh,
    configure: async (lines) => void (await vtysh(['configure terminal', ...lines])),
    killBgpd: () => lab.process(ns, 'bgpd').kill(),
    startBgpd: () => void start('bgpd'),
  };
}
