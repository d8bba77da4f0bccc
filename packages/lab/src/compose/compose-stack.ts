// SPDX-License-Identifier: Apache-2.0
/** The stack of docker-compose.yml as a running thing: its containers by service name, the command line, logs, health. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import { type ConntrackRow, parseConntrack } from '../conntrack.js';
import { type RunOptions, type RunResult, run } from '../run.js';
import { driveTraffic, type TrafficAgent } from '../traffic.js';

/** The checkout's root, where docker-compose.yml is. */
export const composeRoot = fileURLToPath(new URL('../../../../', import.meta.url));
const project = process.env.COMPOSE_PROJECT_NAME ?? 'detour';
const profiles = ['lab', 'tracing', 'cli'].flatMap((name) => ['--profile', name]);
const label = 'com.docker.compose';
const composeMs = 90_000;

/** Addresses and ports of the compose lab (docker-compose.yml, profile `lab`). */
export const composeAddresses = {
  client: '198.51.100.10',
  server: '203.0.113.9',
  http: 80,
  forbidden: 8081,
  echo: 8007,
  unruled: 9000,
  echoUnruled: 9007,
} as const;

export interface ContainerState {
  readonly id: string;
  /** `running`, `exited`, … */
  readonly status: string;
  readonly exitCode: number;
  readonly restarts: number;
  /** `healthy`, `unhealthy`, `starting`; empty without a health check. */
  readonly health: string;
  /** What the last health check printed. */
  readonly said: string;
}

interface Inspected {
  readonly Id: string;
  readonly RestartCount: number;
  readonly State: {
    readonly Status: string;
    readonly ExitCode: number;
    readonly Health?: { readonly Status: string; readonly Log: readonly { readonly Output: string }[] };
  };
}

/** docker-compose where it is, else the engine's own. */
async function composeCommand(): Promise<readonly string[]> {
  try {
    await run(['docker-compose', 'version'], { cwd: composeRoot });
    return ['docker-compose'];
  } catch {
    return ['docker', 'compose'];
  }
}

export class ComposeStack {
  private constructor(
    /** `docker-compose` or `docker compose`. */
    readonly command: readonly string[],
  ) {}

  static async open(): Promise<ComposeStack> {
    return new ComposeStack(await composeCommand());
  }

  compose(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run([...this.command, ...profiles, ...args], {
      cwd: composeRoot,
      timeoutMs: composeMs,
      ...options,
      env: { COMPOSE_PROJECT_NAME: project, ...options.env },
    });
  }

  /**
   * The command line, from its image. Any exit code is an answer unless `okCodes` says otherwise.
   * `document` is what it finds at /etc/detour/intent.yaml; default deploy/intent.yaml.
   */
  cli(
    args: readonly string[],
    options: RunOptions & { readonly document?: string } = {},
  ): Promise<RunResult> {
    const document = options.document ?? `${composeRoot}deploy/intent.yaml`;
    const intent = `${document}:/etc/detour/intent.yaml:ro`;
    const nats = 'DETOUR_NATS=nats://nats:4222';
    const image = `detour/cli:${process.env.DETOUR_VERSION ?? 'dev'}`;
    const argv = [
      'docker',
      'run',
      '--rm',
      '-i',
      '--network',
      `${project}_management`,
      '-e',
      nats,
      '-v',
      intent,
    ];
    return run([...argv, image, ...args], { timeoutMs: composeMs, okCodes: 'any', ...options });
  }

  /** What a question answers as JSON, whatever its exit code (`status` has one for "not well"). */
  async cliJson<T>(args: readonly string[]): Promise<T> {
    const { stdout, stderr, code } = await this.cli([...args, '-o', 'json']);
    if (stdout.trim() === '')
      throw new Fault('internal', `detour ${args.join(' ')}: exit code ${code}: ${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** Services that have a running container. */
  async services(): Promise<string[]> {
    const filters = [
      '--filter',
      `label=${label}.project=${project}`,
      '--filter',
      `label=${label}.oneoff=False`,
    ];
    const { stdout } = await run(['docker', 'ps', ...filters, '--format', `{{.Label "${label}.service"}}`]);
    return stdout.split('\n').filter((name) => name !== '');
  }

  async containerOf(service: string): Promise<string> {
    const filters = [
      `label=${label}.project=${project}`,
      `label=${label}.service=${service}`,
      `label=${label}.oneoff=False`,
    ];
    const argv = ['docker', 'ps', '-aq', '--no-trunc', ...filters.flatMap((filter) => ['--filter', filter])];
    const [id] = (await run(argv)).stdout.trim().split('\n');
    if (id === undefined || id === '') throw new Fault('not_found', `no container of service ${service}`);
    return id;
  }

  async state(service: string): Promise<ContainerState> {
    return stateOf(await this.containerOf(service));
  }

  async exec(service: string, argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(['docker', 'exec', '-i', await this.containerOf(service), ...argv], options);
  }

  async logs(service: string): Promise<string> {
    const { stdout, stderr } = await run(['docker', 'logs', await this.containerOf(service)]);
    return stdout + stderr;
  }

  async kill(service: string): Promise<void> {
    await run(['docker', 'kill', await this.containerOf(service)]);
  }

  async start(service: string): Promise<void> {
    await run(['docker', 'start', await this.containerOf(service)]);
  }

  /** A firewall's tracked connections; of one with the server only, unless told otherwise. */
  async conntrack(firewall: string, destination: string = composeAddresses.server): Promise<ConntrackRow[]> {
    const { stdout } = await this.exec(firewall, ['conntrack', '-L', '-f', 'ipv4', '-o', 'extended']);
    return parseConntrack(stdout).filter((row) => row.destination === destination);
  }

  /** An agent inside a container of the lab image. */
  async traffic(service: string): Promise<TrafficAgent> {
    const argv = ['exec', '-i', await this.containerOf(service), 'node', 'dist/agents/traffic.js'];
    const child = spawn('docker', argv, { stdio: ['pipe', 'pipe', 'pipe'] });
    const { stdin, stdout, stderr } = child;
    let words = '';
    stderr.on('data', (chunk: Buffer) => {
      words = (words + chunk.toString()).slice(-2_000);
    });
    const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
    child.once('error', (error) => {
      words += error.message;
    });
    return driveTraffic({
      ...{ where: service, stdin, stdout, exited, lastWords: () => words.trim() },
      isRunning: () => child.exitCode === null && child.signalCode === null,
      kill: async () => {
        stdin.end(); // the agent ends with its input
        await exited;
      },
    });
  }
}

/** How a container is, by its id or name. */
export async function stateOf(container: string): Promise<ContainerState> {
  const { stdout } = await run(['docker', 'inspect', container]);
  const [found] = JSON.parse(stdout) as Inspected[];
  if (found === undefined) throw new Fault('not_found', `no container ${container}`);
  const { Status: status, ExitCode: exitCode, Health: health } = found.State;
  return {
    ...{ id: found.Id, status, exitCode, restarts: found.RestartCount },
    ...{ health: health?.Status ?? '', said: health?.Log.at(-1)?.Output.trim() ?? '' },
  };
}
