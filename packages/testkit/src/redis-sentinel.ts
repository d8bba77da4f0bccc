// SPDX-License-Identifier: Apache-2.0
// A real master with a replica, watched by three real sentinels, on free loopback ports.
import { writeFileSync } from 'node:fs';
import { freePorts } from './free-port.js';
import { askRedis, type RedisServer, startRedis } from './redis.js';
import { type ServerProcess, startServer } from './server-process.js';
import { answersWith } from './socket-probe.js';
import { until } from './until.js';

const NAME = 'pins';
const QUORUM = 2;

export interface RedisSentinel extends AsyncDisposable {
  /** `redis+sentinel://127.0.0.1:…,…,…/pins` */
  readonly url: string;
  /** The two servers; the first is the master until a fail-over. */
  readonly servers: readonly RedisServer[];
  /** Whom the sentinels name as master now. */
  master(): Promise<RedisServer>;
  /** Resolves when the sentinels name another master than `before`, and it takes writes. */
  failedOver(before: RedisServer): Promise<RedisServer>;
}

/** A master that is silent for half a second is given up. */
export async function startRedisSentinel(): Promise<RedisSentinel> {
  const [masterPort = 0, replicaPort = 0, ...sentinelPorts] = await freePorts(5);
  const opened: AsyncDisposable[] = [];
  const use = <T extends AsyncDisposable>(one: T): T => {
    opened.push(one);
    return one;
  };
  const dispose = async () => {
    for (const one of opened.reverse()) await one[Symbol.asyncDispose]();
  };
  try {
    const first = use(await startRedis({ unix: false, port: masterPort }));
    const replica = use(
      await startRedis({
        unix: false,
        port: replicaPort,
        args: ['--replicaof', '127.0.0.1', String(masterPort)],
      }),
    );
    const servers = [first, replica];
    // Sentinels that find it in step know of it at once; later they look every ten seconds.
    await until(
      async () => /master_link_status:up/.test(await askRedis(replica.url, 'INFO', 'replication')),
      { timeoutMs: 30_000, everyMs: 50, what: 'the replica is in step' },
    );
    for (const port of sentinelPorts) use(await startSentinel(port, masterPort));
    const [asked = 0] = sentinelPorts;
    const sentinel = `redis://127.0.0.1:${asked}`;
    const master = async (): Promise<RedisServer> => {
      const [, port] = (await askRedis(sentinel, 'SENTINEL', 'get-master-addr-by-name', NAME)).split('\n');
      const named = servers.find(({ url }) => new URL(url).port === port);
      if (named === undefined) throw new Error(`the sentinels name port ${port} as master`);
      return named;
    };
    await until(
      async () => {
        const known = await Promise.all(
          sentinelPorts.map((port) =>
            askRedis(`redis://127.0.0.1:${port}`, '--json', 'SENTINEL', 'master', NAME),
          ),
        );
        return known.every(
          (text) => /"num-slaves": ?"1"/.test(text) && /"num-other-sentinels": ?"2"/.test(text),
        );
      },
      { timeoutMs: 30_000, everyMs: 100, what: 'the sentinels know the replica and each other' },
    );
    return {
      url: `redis+sentinel://${sentinelPorts.map((port) => `127.0.0.1:${port}`).join(',')}/${NAME}`,
      servers,
      master,
      failedOver: (before) =>
        until(
          async () => {
            const now = await master();
            return now !== before && (await askRedis(now.url, 'ROLE')).startsWith('master') ? now : null;
          },
          { timeoutMs: 30_000, everyMs: 50, what: 'the sentinels name another master' },
        ),
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

function startSentinel(port: number, masterPort: number): Promise<ServerProcess> {
  return startServer({
    name: 'sentinel',
    command: 'redis-server',
    args: (dir) => {
      const settings = [
        ...[`port ${port}`, 'bind 127.0.0.1', `dir ${dir}`],
        `sentinel monitor ${NAME} 127.0.0.1 ${masterPort} ${QUORUM}`,
        `sentinel down-after-milliseconds ${NAME} 500`,
        `sentinel failover-timeout ${NAME} 3000`,
      ];
      writeFileSync(`${dir}/sentinel.conf`, `${settings.join('\n')}\n`);
      return [`${dir}/sentinel.conf`, '--sentinel'];
    },
    dataDir: 'none',
    probe: () => answersWith({ host: '127.0.0.1', port }, 'PING\r\n', '+PONG'),
  });
}
