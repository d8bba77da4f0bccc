// SPDX-License-Identifier: Apache-2.0
// NATS and Redis for tests that break them: containers where Docker and the images are, local processes otherwise. Both obey the same orders.
import { containerServer, dockerFor } from './container-server.js';
import { freePort } from './free-port.js';
import { startNats } from './nats.js';
import { startRedis } from './redis.js';
import { startRelay } from './relay.js';
import type { ServerProcess } from './server-process.js';
import { answersWith } from './socket-probe.js';

/** A server that can be broken in every way that its clients must survive. Its address stays the same. */
export interface BreakableServer extends AsyncDisposable {
  readonly url: string;
  /** Where it runs, in words: `in a container of nats:2.9`, `as a local process: no Docker answers`. */
  readonly where: string;
  stop(): Promise<void>;
  /** Starts a stopped one, and waits until it answers. */
  start(): Promise<void>;
  /** Freezes it: connections stay, nothing answers. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Stops it and starts it with its data, or with none. */
  restart(data: 'keep' | 'empty'): Promise<void>;
  /** Takes it off the network: nothing reaches it, nobody is told. */
  cut(): Promise<void>;
  mend(): Promise<void>;
}

const NATS = {
  image: 'nats:2.9',
  port: 4222,
  command: ['-js', '-sd', '/data'],
  ready: /Server is ready/,
  answers: (host: string, port: number) => answersWith({ host, port }, '', 'INFO'),
};
const REDIS = {
  image: 'redis:7',
  port: 6379,
  command: ['redis-server', '--appendonly', 'yes', '--save', '', '--protected-mode', 'no'],
  ready: /Ready to accept connections/,
  answers: (host: string, port: number) => answersWith({ host, port }, 'PING\r\n', '+PONG'),
};

/** Says on standard error where it runs. */
export function startBreakableNats(): Promise<BreakableServer> {
  return start(
    NATS,
    (host, port) => `nats://${host}:${port}`,
    (port) => startNats({ port }),
  );
}

/** Says on standard error where it runs. */
export function startBreakableRedis(): Promise<BreakableServer> {
  return start(
    REDIS,
    (host, port) => `redis://${host}:${port}`,
    (port) => startRedis({ unix: false, port }),
  );
}

async function start(
  spec: typeof NATS,
  urlOf: (host: string, port: number) => string,
  startProcess: (port: number) => Promise<ServerProcess>,
): Promise<BreakableServer> {
  const docker = await dockerFor(spec.image);
  const server =
    'why' in docker
      ? await processServer(docker.why, urlOf, startProcess)
      : await containerServer(docker.client, spec, urlOf);
  process.stderr.write(`${spec.image} runs ${server.where}\n`);
  return server;
}

/** A local process behind a relay, which is what can be cut. */
async function processServer(
  why: string,
  urlOf: (host: string, port: number) => string,
  startProcess: (port: number) => Promise<ServerProcess>,
): Promise<BreakableServer> {
  const port = await freePort();
  const server = await startProcess(port);
  const relay = await startRelay(port);
  return {
    url: urlOf('127.0.0.1', relay.port),
    where: `as a local process: ${why}`,
    stop: () => server.stop(),
    start: () => server.start(),
    pause: () => server.pause(),
    resume: async () => server.resume(),
    restart: (data) => server.restart(data),
    cut: async () => relay.cut(),
    mend: async () => relay.mend(),
    [Symbol.asyncDispose]: async () => {
      await relay[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}
