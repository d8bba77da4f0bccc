// SPDX-License-Identifier: Apache-2.0
// `make up`: runs the stack on this machine's own devices, for an operator's own intent. NATS and Redis are started on loopback unless
// DETOUR_NATS and DETOUR_REDIS name others. Everything that it starts is recorded under the run directory, where `make down` finds it.
// usage: node tools/up.mjs INTENT.yaml [GATEWAY]
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { formatProblem, parseIntent } from '../packages/intent/dist/index.js';

const root = resolve(dirname(new URL(import.meta.url).pathname), '..');
const runDir = process.env.DETOUR_RUN_DIR ?? '/run/detour';
const logDir = process.env.DETOUR_LOG_DIR ?? '/var/log/detour';
const [intentFile, wantedGateway] = process.argv.slice(2).filter((text) => text !== '');
const DEADLINE_MS = 30_000;
let begun = false;

try {
  await up();
} catch (error) {
  process.stderr.write(`make up: ${error instanceof Error ? error.message : error}\n`);
  if (begun) process.stderr.write(`What was started still runs (logs in ${logDir}); make down stops it.\n`);
  process.exitCode = 1;
}

async function up() {
  if (intentFile === undefined) throw new Error('no intent given: make up INTENT=my.yaml [GATEWAY=name]');
  if (process.getuid?.() !== 0) throw new Error('must run as root: it attaches programs and makes devices');
  if (existsSync(join(runDir, 'up.json')))
    throw new Error(`a stack is up already (${join(runDir, 'up.json')}): run make down first`);
  const parsed = parseIntent(readFileSync(intentFile, 'utf8'), intentFile, 'whole');
  if (!parsed.ok)
    throw new Error(
      `${parsed.problems.map(formatProblem).join('\n')}\nthe intent is refused: nothing was started`,
    );
  const { intent } = parsed;
  const names = intent.gateways.map((row) => row.name);
  const gateway = wantedGateway ?? (names.length === 1 ? names[0] : undefined);
  const row = intent.gateways.find((one) => one.name === gateway);
  if (row === undefined)
    throw new Error(
      `which gateway is this machine? make up INTENT=${intentFile} GATEWAY=one of ${names.join(', ')}`,
    );
  mkdirSync(runDir, { recursive: true });
  mkdirSync(logDir, { recursive: true });
  const started = [];
  const record = () =>
    writeFileSync(
      join(runDir, 'up.json'),
      `${JSON.stringify({ gateway, started, pinDir: process.env.DETOUR_PIN_DIR ?? `/sys/fs/bpf/detour/${gateway}` }, null, 2)}\n`,
    );
  const start = (name, command, args, env = {}) => {
    const log = openSync(join(logDir, `${name}.log`), 'a');
    const child = spawn(command, args, {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...process.env, ...env },
      cwd: root,
    });
    child.unref();
    begun = true;
    started.push({ name, pid: child.pid });
    record();
    process.stdout.write(`started ${name} (pid ${child.pid}, log ${join(logDir, `${name}.log`)})\n`);
  };
  const nats = process.env.DETOUR_NATS ?? 'nats://127.0.0.1:4222';
  const redis = process.env.DETOUR_REDIS ?? 'redis://127.0.0.1:6379';
  if (process.env.DETOUR_NATS === undefined) {
    await mustBeFree(4222, 'NATS', 'DETOUR_NATS');
    start('nats-server', 'nats-server', [
      '-js',
      '-sd',
      join(runDir, 'nats'),
      '-a',
      '127.0.0.1',
      '-p',
      '4222',
    ]);
    await answers(4222, 'nats-server');
  }
  if (process.env.DETOUR_REDIS === undefined) {
    await mustBeFree(6379, 'Redis', 'DETOUR_REDIS');
    mkdirSync(join(runDir, 'redis'), { recursive: true });
    start('redis-server', 'redis-server', [
      '--bind',
      '127.0.0.1',
      '--port',
      '6379',
      '--dir',
      join(runDir, 'redis'),
      '--appendonly',
      'yes',
    ]);
    await answers(6379, 'redis-server');
  }
  const devices = row.ports.flatMap((port) =>
    port.kind !== 'underlay' && port.device !== undefined ? [port.device] : [],
  );
  const env = {
    DETOUR_NATS: nats,
    DETOUR_REDIS: redis,
    DETOUR_RUN_DIR: runDir,
    DETOUR_GATEWAY: gateway,
    DETOUR_GUARD_DEVICES: devices.join(','),
  };
  for (const service of ['classifier', 'path-selector', 'stats-collector', 'tunnel-gw', 'bfd']) {
    start(service, process.execPath, [join(root, `services/${service}/dist/main.js`)], env);
  }
  process.stdout.write(`applying ${intentFile} …\n`);
  process.stdout.write(cli(['apply', '-f', intentFile, '--wait', '--timeout', '30s'], env));
  process.stdout.write(`\nThe gateway ${gateway} runs. Ask it: bin/detour status   (stop it: make down)\n`);
}

function cli(args, env) {
  try {
    return execFileSync(process.execPath, [join(root, 'cli/dist/main.js'), ...args], {
      encoding: 'utf8',
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    throw new Error(`detour ${args.join(' ')}: ${error.stderr || error.stdout || error.message}`);
  }
}

function mustBeFree(port, what, variable) {
  return new Promise((done, fail) => {
    const probe = createServer();
    probe.once('error', () =>
      fail(
        new Error(
          `port ${port} of 127.0.0.1 is taken: stop what uses it, or name your own ${what} in ${variable}`,
        ),
      ),
    );
    probe.listen(port, '127.0.0.1', () => probe.close(() => done()));
  });
}

async function answers(port, name) {
  const end = Date.now() + DEADLINE_MS;
  while (Date.now() < end) {
    const ok = await new Promise((done) => {
      const socket = connect(port, '127.0.0.1', () => done(true));
      socket.on('error', () => done(false));
      socket.on('connect', () => socket.end());
    });
    if (ok) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(
    `${name} does not answer on port ${port}: ${readFileSync(join(logDir, `${name}.log`), 'utf8').slice(-500)}`,
  );
}
