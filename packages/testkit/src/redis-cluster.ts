// SPDX-License-Identifier: Apache-2.0
// A real Redis Cluster of six on free loopback ports: three masters, a replica for each.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { freePorts } from './free-port.js';
import { askRedis, type RedisServer, startRedis } from './redis.js';
import { answersWith } from './socket-probe.js';
import { until } from './until.js';

const run = promisify(execFile);
const SERVERS = 6;
const NODE_TIMEOUT_MS = 1_000;

export interface RedisCluster extends AsyncDisposable {
  /** `redis+cluster://127.0.0.1:…,…` with the first three servers. */
  readonly url: string;
  readonly servers: readonly RedisServer[];
  /** Who has the key's slot now, as `through` sees it (the first server that answers, unless given). */
  masterOf(key: string, through?: RedisServer): Promise<RedisServer>;
  /** The masters now. */
  masters(): Promise<RedisServer[]>;
  /** Begins to move a key's slot to another master: keys that are there stay until they are moved one by one, new ones go over (ASK). */
  beginMigration(
    key: string,
  ): Promise<{ readonly from: RedisServer; readonly to: RedisServer; readonly slot: string }>;
  /** Moves what is left and gives the slot to its new master (MOVED). */
  endMigration(migration: {
    readonly from: RedisServer;
    readonly to: RedisServer;
    readonly slot: string;
  }): Promise<void>;
}

/** A master that is silent for a second is replaced by its replica. */
export async function startRedisCluster(): Promise<RedisCluster> {
  const ports = await freePorts(2 * SERVERS);
  const servers: RedisServer[] = [];
  const dispose = async () => {
    for (const server of servers) await server[Symbol.asyncDispose]();
  };
  try {
    const members: string[] = [];
    for (let i = 0; i < SERVERS; i++) {
      const [port = 0, busPort = 0] = ports.slice(2 * i);
      servers.push(await startMember(port, busPort));
      members.push(`127.0.0.1:${port}@${busPort}`);
    }
    await run('redis-cli', [
      ...['--cluster', 'create', ...members],
      ...['--cluster-replicas', '1', '--cluster-yes'],
    ]);
    await until(async () => (await Promise.all(servers.map(isWhole))).every(Boolean), {
      timeoutMs: 30_000,
      everyMs: 100,
      what: 'every member of the cluster sees all slots served and three replicas in step',
    });
    const cluster = new Cluster(servers);
    return Object.assign(cluster, {
      url: `redis+cluster://${members
        .slice(0, 3)
        .map((member) => member.split('@')[0])
        .join(',')}`,
      [Symbol.asyncDispose]: dispose,
    });
  } catch (error) {
    await dispose();
    throw error;
  }
}

function startMember(port: number, busPort: number): Promise<RedisServer> {
  return startRedis({
    unix: false,
    port,
    args: [
      ...['--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf'],
      ...['--cluster-port', String(busPort), '--cluster-node-timeout', String(NODE_TIMEOUT_MS)],
      ...['--cluster-allow-replica-migration', 'no'],
    ],
  });
}

async function isWhole({ url }: RedisServer): Promise<boolean> {
  const replication = await askRedis(url, 'INFO', 'replication');
  const inStep = /role:master[\s\S]*connected_slaves:1|master_link_status:up/.test(replication);
  return inStep && /cluster_state:ok/.test(await askRedis(url, 'CLUSTER', 'INFO'));
}

interface Member {
  readonly id: string;
  readonly server: RedisServer;
  readonly slots: readonly (readonly [number, number])[];
}

class Cluster {
  constructor(readonly servers: readonly RedisServer[]) {}

  async masterOf(key: string, through?: RedisServer): Promise<RedisServer> {
    const slot = Number(await this.ask(through, 'CLUSTER', 'KEYSLOT', key));
    const owner = (await this.members(through)).find(({ slots }) =>
      slots.some(([from, to]) => slot >= from && slot <= to),
    );
    if (owner === undefined) throw new Error(`nobody serves slot ${slot}`);
    return owner.server;
  }

  async masters(): Promise<RedisServer[]> {
    return (await this.members()).filter(({ slots }) => slots.length > 0).map(({ server }) => server);
  }

  async beginMigration(key: string) {
    const members = await this.members();
    const from = await this.masterOf(key);
    const source = members.find(({ server }) => server === from);
    const target = members.find(({ server, slots }) => slots.length > 0 && server !== from);
    if (source === undefined || target === undefined) throw new Error('the cluster has no second master');
    const slot = await this.ask(from, 'CLUSTER', 'KEYSLOT', key);
    await this.ask(target.server, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', source.id);
    await this.ask(from, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', target.id);
    return { from, to: target.server, slot };
  }

  async endMigration({
    from,
    to,
    slot,
  }: {
    from: RedisServer;
    to: RedisServer;
    slot: string;
  }): Promise<void> {
    const keys = (await this.ask(from, 'CLUSTER', 'GETKEYSINSLOT', slot, '100000'))
      .split('\n')
      .filter(Boolean);
    if (keys.length > 0)
      await this.ask(from, 'MIGRATE', '127.0.0.1', new URL(to.url).port, '', '0', '5000', 'KEYS', ...keys);
    const target = (await this.members()).find(({ server }) => server === to);
    if (target === undefined) throw new Error('the new master is no member');
    const masters = await this.masters();
    for (const server of [to, ...masters.filter((one) => one !== to)])
      await this.ask(server, 'CLUSTER', 'SETSLOT', slot, 'NODE', target.id);
  }

  private async members(through?: RedisServer): Promise<Member[]> {
    const text = await this.ask(through, 'CLUSTER', 'NODES');
    return text.split('\n').flatMap((line): Member[] => {
      const [id = '', address = '', , , , , , , ...ranges] = line.split(' ');
      const port = /:(\d+)@/.exec(address)?.[1];
      const server = this.servers.find(({ url }) => new URL(url).port === port);
      if (server === undefined) return [];
      const slots = ranges
        .filter((range) => /^\d/.test(range))
        .map((range) => {
          const [from = 0, to = from] = range.split('-').map(Number);
          return [from, to] as const;
        });
      return [{ id, server, slots }];
    });
  }

  private async ask(through: RedisServer | undefined, ...command: string[]): Promise<string> {
    if (through !== undefined) return askRedis(through.url, ...command);
    let last: unknown;
    for (const server of this.servers) {
      if (server.pid === undefined || !(await answers(server))) continue;
      try {
        return await askRedis(server.url, ...command);
      } catch (error) {
        last = error;
      }
    }
    throw new Error('no member of the cluster answers', { cause: last });
  }
}

function answers({ url }: RedisServer): Promise<boolean> {
  return answersWith({ host: '127.0.0.1', port: Number(new URL(url).port) }, 'PING\r\n', '+PONG');
}
