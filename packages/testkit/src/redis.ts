// SPDX-License-Identifier: Apache-2.0
// A real redis-server on a unix socket or a free loopback port.
import { freePort } from './free-port.js';
import { type ServerProcess, startServer } from './server-process.js';
import { answersWith } from './socket-probe.js';

export interface RedisServer extends ServerProcess {
  /** `unix:/path` or `redis://127.0.0.1:<port>`; the same after a restart. */
  readonly url: string;
}

/** Starts redis-server without persistence files other than its append-only log (so that `restart('keep')` keeps). */
export async function startRedis(options: { unix?: boolean; port?: number } = {}): Promise<RedisServer> {
  const { unix = true, port = unix ? 0 : await freePort() } = options;
  const server = await startServer({
    name: 'redis',
    command: 'redis-server',
    args: (dir) => [
      ...['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'yes', '--dir', dir],
      ...(unix ? ['--unixsocket', `${dir}/redis.sock`] : []),
    ],
    dataDir: 'appendonlydir',
    probe: (dir) =>
      answersWith(unix ? { path: `${dir}/redis.sock` } : { host: '127.0.0.1', port }, 'PING\r\n', '+PONG'),
  });
  return Object.defineProperties(server, {
    url: { value: unix ? `unix:${server.dir}/redis.sock` : `redis://127.0.0.1:${port}` },
  }) as RedisServer;
}
