// SPDX-License-Identifier: Apache-2.0
/** `detour node status` asks the running command over a Unix socket: one connection, one JSON document. */
import { chmodSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { Fault } from '@detour/core';
import type { GatewayState } from './state.js';

export interface GatewayStatus extends GatewayState {
  readonly bfd: { readonly state: string; readonly diag: string; readonly remote: string | null } | null;
  readonly packetsIn: number;
  readonly packetsBack: number;
  readonly bytesIn: number;
  readonly bytesBack: number;
  readonly echoesIn: number;
  readonly echoesBack: number;
  readonly dropped: number;
}

export interface NodeStatus {
  readonly node: string;
  readonly state: 'up' | 'down';
  readonly why: string;
  /** Wall clock of the last change. */
  readonly since: string;
  readonly devices: Readonly<Record<string, string>>;
  readonly mtu: number;
  readonly gateways: readonly GatewayStatus[];
  readonly drops: Readonly<Record<string, number>>;
  /** What of the reports was refused or could not be sent; null: nothing, or none are sent. */
  readonly report: string | null;
  readonly pid: number;
}

const ANSWER_MS = 2_000;
const PREFIX = 'node-';
const SUFFIX = '.sock';

export function runDirOf(env: Readonly<Record<string, string | undefined>>): string {
  return env.DETOUR_RUN_DIR ?? '/run/detour';
}

/** @throws Fault `conflict` when another one attaches the same node here, `permission` */
export async function serveStatus(
  runDir: string,
  node: string,
  status: () => NodeStatus,
): Promise<AsyncDisposable> {
  const path = join(runDir, `${PREFIX}${node}${SUFFIX}`);
  const running = await askStatus(path).catch(() => null);
  if (running !== null)
    throw new Fault(
      'conflict',
      `node ${node} is attached here already, by process ${running.pid}: stop that one first`,
    );
  try {
    mkdirSync(runDir, { recursive: true });
    rmSync(path, { force: true }); // left by a run that ended early
  } catch (cause) {
    throw new Fault(
      'permission',
      `${path} cannot be made: run as root, or name a directory in DETOUR_RUN_DIR`,
      cause,
    );
  }
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end(JSON.stringify(status()));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new Fault('permission', `socket ${path}: ${cause.message}`, cause)),
    );
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return {
    [Symbol.asyncDispose]: async () => {
      server.close();
      rmSync(path, { force: true });
    },
  };
}

/** @throws Fault `unavailable` */
export function askStatus(path: string): Promise<NodeStatus> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const parts: Buffer[] = [];
    const fail = (why: string) => {
      socket.destroy();
      reject(
        new Fault('unavailable', `${path} does not answer (${why}): is \`detour node attach\` running?`),
      );
    };
    socket.setTimeout(ANSWER_MS, () => fail('no answer in 2 s'));
    socket.on('error', (error) => fail(error.message));
    socket.on('data', (part) => parts.push(part));
    socket.on('end', () => {
      try {
        resolve(JSON.parse(Buffer.concat(parts).toString('utf8')) as NodeStatus);
      } catch {
        fail('no JSON');
      }
    });
  });
}

/** Of the named node, or of all that are attached here. @throws Fault `not_found`, `unavailable` */
export async function askAllStatus(runDir: string, node: string | undefined): Promise<NodeStatus[]> {
  const names = listSockets(runDir).filter(
    (name) => node === undefined || name === `${PREFIX}${node}${SUFFIX}`,
  );
  if (names.length === 0)
    throw new Fault(
      'not_found',
      `no ${node === undefined ? 'node' : `node ${node}`} is attached here (nothing in ${runDir}): start \`detour node attach\``,
    );
  return Promise.all(names.map((name) => askStatus(join(runDir, name))));
}

function listSockets(runDir: string): string[] {
  try {
    return readdirSync(runDir).filter((name) => name.startsWith(PREFIX) && name.endsWith(SUFFIX));
  } catch {
    return [];
  }
}
