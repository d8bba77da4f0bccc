// SPDX-License-Identifier: Apache-2.0
// A real redis-server on a unix socket or a free loopback port.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { freePort } from './free-port.js';
import { type ServerProcess, startServer } from './server-process.js';
import { answersWith } from './socket-probe.js';

const run = promisify(execFile);

export interface RedisServer extends ServerProcess {
  /** `unix:/path` or `redis://127.0.0.1:<port>`; the same after a restart. */
  readonly url: string;
}

export interface RedisOptions {
  readonly unix?: boolean;
  readonly port?: number;
  /** More of its arguments, such as `--maxmemory 3mb`. */
  readonly args?: readonly string[];
}

/** Starts redis-server without persistence files other than its append-only log (so that `restart('keep')` keeps). */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const { unix = true, port = unix ? 0 : await freePort(), args = [] } = options;
  const server = await startServer({
    name: 'redis',
    command: 'redis-server',
    args: (dir) => [
      ...['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'yes', '--dir', dir],
      ...['--repl-diskless-sync-delay', '0'], // a replica need not wait for another
      ...(unix ? ['--unixsocket', `${dir}/redis.sock`] : []),
      ...args,
    ],
    dataDir: 'appendonlydir',
    probe: (dir) =>
      answersWith(unix ? { path: `${dir}/redis.sock` } : { host: '127.0.0.1', port }, 'PING\r\n', '+PONG'),
  });
  return Object.defineProperties(server, {
    url: { value: unix ? `unix:${server.dir}/redis.sock` : `redis://127.0.0.1:${port}` },
  }) as RedisServer;
}

/** What redis-cli prints for one command. @throws when the server refuses it, with its words */
export async function askRedis(url: string, ...command: readonly string[]): Promise<string> {
  const at = url.startsWith('unix:')
    ? ['-s', url.slice('unix:'.length)]
    : ['-h', new URL(url).hostname, '-p', new URL(url).port];
  const { stdout } = await run('redis-cli', ['-e', ...at, ...command]);
  return stdout.trim();
}
