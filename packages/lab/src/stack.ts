// SPDX-License-Identifier: Apache-2.0
/** Runs nats-server, redis-server and the five services as processes of a lab, and lets a test end and start each of them. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import type { Lab } from './lab.js';
import type { LabProcess } from './process.js';
import { probeRedis } from './redis-probe.js';
import type { RunResult } from './run.js';
import {
  natsMonitorPort,
  natsPort,
  type PlannedProcess,
  planStack,
  redisPort,
  redisSocket,
  type StackOptions,
} from './stack-plan.js';
import { startTraffic } from './traffic.js';
import { waitFor } from './wait.js';

export interface CliOptions {
  /** Written to its standard input. */
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Default 30,000. */
  readonly timeoutMs?: number;
}

/** `id`: `nats`, `redis`, or a service as named in stack-plan.ts: `tunnel-gw`, `classifier-2`, `bfd@edge2`. */
export interface Stack extends AsyncDisposable {
  readonly ids: readonly string[];
  readonly plan: readonly PlannedProcess[];
  readonly natsUrl: string;
  readonly redisUrl: string;
  /** The running process, or the last one that ran. @throws Fault for an unknown id. */
  process(id: string): LabProcess;
  /** SIGKILL; resolves when it is gone. */
  kill(id: string): Promise<void>;
  /** SIGTERM; resolves when it is gone. */
  stop(id: string): Promise<void>;
  /**
   * Starts it again as it was, with its data; resolves when it serves (it may still wait for an intent), or at once
   * with `wait: false`.
   */
  start(id: string, options?: { readonly wait?: boolean }): Promise<void>;
  /** SIGSTOP: connections stay, nothing answers. */
  pause(id: string): void;
  resume(id: string): void;
  /** Resolves when `/ready` of each (default: all) answers 200. @throws Fault `timeout` with what each said last. */
  ready(ids?: readonly string[], timeoutMs?: number): Promise<void>;
  /** Prometheus text of a service. */
  metrics(id: string): Promise<string>;
  /** Runs `detour` on the management network; never rejects for an exit code. */
  cli(args: readonly string[], options?: CliOptions): Promise<RunResult>;
  /** The same with `-o json`, parsed. @throws Fault with its standard error when it does not exit with 0. */
  cliJson<T>(args: readonly string[], options?: CliOptions): Promise<T>;
}

const readyTimeoutMs = 30_000;

/** What a service may wait for in `/ready` before any intent was applied, and count as started. */
const awaitsIntent = 'intent';

/** Starts everything; resolves when all of it serves (it may still wait for an intent). @throws Fault naming what is not, with the end of its log. */
export async function startStack(lab: Lab, options: StackOptions = {}): Promise<Stack> {
  const ns = options.ns ?? 'mgmt';
  const address = options.address ?? '172.30.0.1';
  const plan = planStack(options, lab);
  const natsDir = join(lab.dir, 'nats');
  const redisDir = join(lab.dir, 'redis');
  for (const dir of [natsDir, redisDir]) mkdirSync(dir, { recursive: true });
  for (const { env } of plan) if (env.DETOUR_RUN_DIR) mkdirSync(env.DETOUR_RUN_DIR, { recursive: true });
  const prober = startTraffic(lab, ns);

  const natsArgs = [
    '-a',
    address,
    '-p',
    String(natsPort),
    '-m',
    String(natsMonitorPort),
    '-js',
    '-sd',
    natsDir,
  ];
  const redisArgs = [
    ...['--bind', address, '--port', String(redisPort), '--unixsocket', redisSocket(lab), '--dir', redisDir],
    ...['--save', '', '--appendonly', 'yes', '--protected-mode', 'no'],
  ];
  const servers: readonly Startable[] = [
    { id: 'nats', ns, argv: ['nats-server', ...natsArgs], env: {} },
    { id: 'redis', ns, argv: ['redis-server', ...redisArgs], env: {} },
  ];
  const startables = new Map<string, Startable>([...servers, ...plan].map((one) => [one.id, one]));
  const running = new Map<string, LabProcess>();

  const find = (id: string): LabProcess => {
    const found = running.get(id);
    if (found === undefined)
      throw new Fault('not_found', `no process '${id}': use ${[...startables.keys()].join(', ')}`);
    return found;
  };
  const spawn = ({ id, ns: where, argv, env }: Startable): void => {
    running.set(id, lab.spawn(where, argv, { name: id, env }));
  };
  const fetch = (at: { address: string; port: number }, path: string) =>
    prober.httpGet({ remote: at, path, timeoutMs: 1_000 });
  const whyNotReady = async (id: string, beforeIntent: boolean): Promise<string | undefined> => {
    if (id === 'redis') return probeRedis(redisSocket(lab));
    const at = plan.find((one) => one.id === id)?.metrics ?? { address, port: natsMonitorPort };
    const answer = await fetch(at, id === 'nats' ? '/healthz' : '/ready');
    if (!answer.ok) return answer.error;
    if (answer.status === 200 || (beforeIntent && waitsOnlyForIntent(answer.body))) return undefined;
    return answer.body.trim();
  };
  const awaitReady = async (
    ids: readonly string[],
    timeoutMs: number,
    beforeIntent: boolean,
  ): Promise<void> => {
    const last = new Map<string, string>();
    const check = async (): Promise<boolean> => {
      await Promise.all(
        ids.map(async (id) => {
          const child = find(id);
          if (!child.isRunning())
            throw new Fault('unavailable', `${id} ended: ${child.log().trim().slice(-1_000)}`);
          const why = await whyNotReady(id, beforeIntent);
          if (why === undefined) last.delete(id);
          else last.set(id, why);
        }),
      );
      return last.size === 0;
    };
    try {
      await waitFor(check, { what: ids.join(', '), timeoutMs, everyMs: 20 });
    } catch (cause) {
      if (!(cause instanceof Fault && cause.code === 'timeout')) throw cause;
      const still = [...last].map(([id, why]) => `${id}: ${why} (log: ${find(id).logFile})`).join('; ');
      throw new Fault('timeout', `not ready after ${timeoutMs} ms: ${still}`, cause);
    }
  };
  const close = async (): Promise<void> => {
    await Promise.all([...running.values()].map((child) => child.stop()));
    await prober.close();
  };
  const cli = (args: readonly string[], cliOptions: CliOptions = {}): Promise<RunResult> => {
    const main = fileURLToPath(new URL('../../../cli/dist/main.js', import.meta.url));
    return lab.exec(ns, [process.execPath, main, ...args], {
      ...cliOptions,
      env: { DETOUR_NATS: `nats://${address}:${natsPort}`, ...cliOptions.env },
      okCodes: 'any',
    });
  };
  const stack: Stack = {
    ids: [...startables.keys()],
    plan,
    natsUrl: `nats://${address}:${natsPort}`,
    redisUrl: `unix:${redisSocket(lab)}`,
    process: find,
    kill: (id) => find(id).kill(),
    stop: (id) => find(id).stop(),
    async start(id, startOptions) {
      const startable = startables.get(id);
      if (startable === undefined || find(id).isRunning()) throw new Fault('invalid', `${id} is running`);
      spawn(startable);
      if (startOptions?.wait !== false) await awaitReady([id], readyTimeoutMs, true);
    },
    pause: (id) => find(id).signal('SIGSTOP'),
    resume: (id) => find(id).signal('SIGCONT'),
    ready: (ids = [...startables.keys()], timeoutMs = readyTimeoutMs) => awaitReady(ids, timeoutMs, false),
    async metrics(id) {
      const at = plan.find((one) => one.id === id)?.metrics;
      if (at === undefined) throw new Fault('not_found', `${id} serves no metrics`);
      const answer = await fetch(at, '/metrics');
      if (!answer.ok) throw new Fault('unavailable', `metrics of ${id}: ${answer.error}`);
      return answer.body;
    },
    cli,
    async cliJson<T>(args: readonly string[], cliOptions?: CliOptions) {
      const { code, stdout, stderr } = await cli([...args, '-o', 'json'], cliOptions);
      if (code !== 0)
        throw new Fault('internal', `detour ${args.join(' ')}: exit code ${code}: ${stderr.trim()}`);
      return JSON.parse(stdout) as T;
    },
    [Symbol.asyncDispose]: close,
  };
  try {
    for (const server of servers) spawn(server);
    await awaitReady(['nats', 'redis'], readyTimeoutMs, false);
    for (const one of plan) spawn(one);
    await awaitReady([...startables.keys()], readyTimeoutMs, true);
    return stack;
  } catch (error) {
    await close();
    throw error;
  }
}

interface Startable {
  readonly id: string;
  readonly ns: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Reads the body of a 503 of `/ready`: `{"ready":false,"waiting":{"intent":"no revision yet"}}`. */
function waitsOnlyForIntent(body: string): boolean {
  try {
    const { waiting } = JSON.parse(body) as { waiting?: Record<string, string> };
    return waiting !== undefined && Object.keys(waiting).every((item) => item === awaitsIntent);
  } catch {
    return false; // no readiness report
  }
}
