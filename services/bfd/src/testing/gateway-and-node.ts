// SPDX-License-Identifier: Apache-2.0
// For tests: a gateway namespace and a node namespace with a real BFD daemon, and an engine whose timing thread runs in the gateway.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createLab, type Lab, type LinkSpec, type ProcessSpec } from '@detour/lab';
import { until } from '@detour/testkit';
import { BfdEngine, type SessionEvent } from '../engine.js';
import type { HealthRow, SessionRow, SessionSpec } from '../loop-messages.js';

const run = promisify(execFile);
export const workerUrl = new URL('../../dist/worker.js', import.meta.url);

/** The timing thread runs built code: brings it up to date. */
export async function buildWorker(): Promise<void> {
  await run('pnpm', ['exec', 'tsc', '-b', fileURLToPath(new URL('../..', import.meta.url))]);
}

/** BIRD with these lines of `protocol bfd`; `realtime` where it must be punctual on a busy machine. */
export function bird(protocol: string, realtime = false): ProcessSpec {
  const config = `log stderr all;\nrouter id 1.1.1.1;\nprotocol device { scan time 1; }\nprotocol bfd {\n${protocol}\n}\n`;
  return {
    name: 'bird',
    argv: [
      ...(realtime ? ['chrt', '-r', '1'] : []),
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

/** FRR's bfdd with one peer. */
export function frr(peer: string, local: string, lines: readonly string[]): ProcessSpec {
  const config = `bfd\n peer ${peer} local-address ${local}\n  ${lines.join('\n  ')}\n exit\nexit\n`;
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
    argv: ['/usr/lib/frr/bfdd', '-f', '{dir}/bfdd.conf', ...paths, '-P', '0', '--log', 'stdout'],
    files: { 'bfdd.conf': config },
    user: 'frr',
  };
}

/** A gateway `gw` and a node `n1`, joined by vti-n1 (ours) and gw0 (the node's), which forwards. */
export async function gatewayAndNode(
  name: string,
  processes: readonly ProcessSpec[],
  addresses: { readonly ours: readonly string[]; readonly theirs: readonly string[] } = {
    ours: ['169.254.1.1/30', 'fd00:1::1/64'],
    theirs: ['169.254.1.2/30', 'fd00:1::2/64'],
  },
  more: readonly LinkSpec[] = [],
): Promise<Lab> {
  const forwards = Object.fromEntries(
    ['all', 'default', 'gw0'].flatMap((device) => [
      [`net.ipv4.conf.${device}.rp_filter`, 0],
      [`net.ipv4.conf.${device}.send_redirects`, 0],
    ]),
  );
  return createLab(
    {
      namespaces: {
        gw: { sysctls: { 'net.ipv4.conf.all.rp_filter': 0, 'net.ipv4.conf.default.rp_filter': 0 } },
        n1: {
          sysctls: { 'net.ipv4.ip_forward': 1, 'net.ipv6.conf.all.forwarding': 1, ...forwards },
          processes,
        },
      },
      links: [
        {
          a: { ns: 'gw', device: 'vti-n1', addresses: addresses.ours },
          b: { ns: 'n1', device: 'gw0', addresses: addresses.theirs },
        },
        ...more,
      ],
    },
    { name },
  );
}

/** An engine with what it has told. */
export interface WatchedEngine extends AsyncDisposable {
  readonly engine: BfdEngine;
  readonly events: SessionEvent[];
  /** All health told of a session, oldest first. */
  healthOf(id: string): HealthRow[];
  row(id: string): Promise<SessionRow>;
  /** Waits until the latest health of a session is this; returns that row. */
  untilHealth(id: string, state: HealthRow['state'], why?: string): Promise<HealthRow>;
}

export async function startEngine(lab: Lab): Promise<WatchedEngine> {
  const events: SessionEvent[] = [];
  const told: HealthRow[] = [];
  const failures: unknown[] = [];
  const engine = await BfdEngine.start(
    workerUrl,
    {
      onHealth: (rows) => told.push(...rows),
      onEvent: (event) => events.push(event),
      onFailure: (error) => failures.push(error),
    },
    `/run/netns/${lab.netns('gw')}`,
  );
  const healthOf = (id: string) => told.filter((row) => row.id === id);
  return {
    engine,
    events,
    healthOf,
    row: async (id) => {
      const found = (await engine.list()).rows.find((row) => row.spec.id === id);
      if (found === undefined) throw new Error(`no session ${id}`);
      return found;
    },
    untilHealth: (id, state, why) =>
      until(
        () => {
          if (failures.length > 0) throw failures[0];
          const latest = healthOf(id).at(-1);
          return latest?.state === state && (why === undefined || latest.why.includes(why)) ? latest : null;
        },
        {
          timeoutMs: 10_000,
          what: `${id} ${state}; told so far: ${healthOf(id).map((h) => `${h.state} (${h.why})`)}`,
        },
      ),
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  };
}

/** A session over vti-n1 with 50 ms × 3; change what the test is about. */
export function sessionOf(change: Partial<SessionSpec> = {}): SessionSpec {
  return {
    id: 'n1',
    node: 'n1',
    vrf: '',
    device: 'vti-n1',
    local: '169.254.1.1',
    peer: '169.254.1.2',
    timers: { desiredMinTxUs: 50_000, requiredMinRxUs: 50_000, detectMult: 3 },
    echo: null,
    ...change,
    hears: change.hears ?? change.peer ?? '169.254.1.2',
    end: change.end ?? null,
    multihop: change.multihop ?? null,
  };
}

/** One line of `birdc show bfd sessions`, seconds. */
export interface BirdSession {
  readonly address: string;
  readonly device: string;
  readonly state: string;
  readonly intervalS: number;
  readonly timeoutS: number;
}

export async function birdSessions(lab: Lab): Promise<BirdSession[]> {
  const shown = await lab.exec('n1', [
    'birdc',
    '-s',
    `${lab.dir}/n1/bird/bird.ctl`,
    'show',
    'bfd',
    'sessions',
  ]);
  return shown.stdout.split('\n').flatMap((line) => {
    const found = /^(\S+)\s+(\S+)\s+(Up|Down|Init|AdminDown)\s+\S+\s+([\d.]+)\s+([\d.]+)$/.exec(line.trim());
    const [, address, device, state, interval, timeout] = found ?? [];
    if (address === undefined || device === undefined || state === undefined) return [];
    return [{ address, device, state, intervalS: Number(interval), timeoutS: Number(timeout) }];
  });
}

/** Runs lines in vtysh of the node's bfdd. */
export async function vtysh(lab: Lab, lines: readonly string[]): Promise<string> {
  const commands = lines.flatMap((line) => ['-c', line]);
  return (await lab.exec('n1', ['vtysh', '--vty_socket', `${lab.dir}/n1/bfdd`, ...commands])).stdout;
}

/** What `show bfd peers json` says, in part. */
export interface FrrPeer {
  readonly id: number;
  readonly 'remote-id': number;
  readonly status: string;
  readonly diagnostic: string;
  readonly 'remote-diagnostic': string;
  readonly 'remote-receive-interval': number;
  readonly 'remote-transmit-interval': number;
  readonly 'remote-detect-multiplier': number;
  readonly 'receive-interval': number;
}

export async function frrPeer(lab: Lab): Promise<FrrPeer> {
  const peers: FrrPeer[] = JSON.parse(await vtysh(lab, ['show bfd peers json']));
  const [peer] = peers;
  if (peer === undefined) throw new Error('bfdd has no peer');
  return peer;
}
