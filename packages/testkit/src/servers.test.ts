// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { startNats } from './nats.js';
import { startRedis } from './redis.js';
import { startServer } from './server-process.js';
import { answersWith } from './socket-probe.js';
import { until } from './until.js';

const pathOf = (url: string) => url.slice('unix:'.length);

describe('startNats', () => {
  it('serves streams, stops, and serves again on the same port', async () => {
    await using nats = await startNats();
    expect(await answersWith({ host: '127.0.0.1', port: nats.port }, '', '"jetstream":true')).toBe(true);
    await nats.stop();
    expect(await answersWith({ host: '127.0.0.1', port: nats.port }, '', 'INFO')).toBe(false);
    await nats.start();
    expect(await answersWith({ host: '127.0.0.1', port: nats.port }, '', 'INFO')).toBe(true);
  });
  it('runs without JetStream', async () => {
    await using nats = await startNats({ jetstream: false });
    expect(await answersWith({ host: '127.0.0.1', port: nats.port }, '', '"jetstream":true')).toBe(false);
  });
});

describe('startRedis', () => {
  it('keeps or loses its data on restart, as told', async () => {
    await using redis = await startRedis();
    const path = pathOf(redis.url);
    expect(await answersWith({ path }, 'SET k v\r\n', '+OK')).toBe(true);
    await redis.restart('keep');
    expect(await answersWith({ path }, 'GET k\r\n', '$1\r\nv')).toBe(true);
    await redis.restart('empty');
    expect(await answersWith({ path }, 'GET k\r\n', '$-1')).toBe(true);
  });
  it('freezes and thaws', async () => {
    await using redis = await startRedis({ unix: false });
    const port = Number(new URL(redis.url).port);
    await redis.pause();
    const socket = connect({ host: '127.0.0.1', port });
    let heard = '';
    socket.on('data', (chunk) => {
      heard += chunk.toString();
    });
    socket.on('error', () => {});
    socket.write('PING\r\n');
    expect(await answersWith({ host: '127.0.0.1', port }, 'PING\r\n', '+PONG')).toBe(false);
    expect(heard).toBe('');
    redis.resume();
    await until(() => heard.includes('+PONG'));
    socket.destroy();
  });
  it('removes its files when disposed', async () => {
    const redis = await startRedis();
    await redis[Symbol.asyncDispose]();
    expect(existsSync(redis.dir)).toBe(false);
  });
});

describe('startServer', () => {
  it('says what a server said that ended at once', async () => {
    await expect(
      startServer({
        name: 'bad',
        command: 'redis-server',
        args: () => ['--no-such-option', 'x'],
        probe: async () => false,
        dataDir: 'x',
      }),
    ).rejects.toThrow(/ended at once/);
  });
});

describe('until', () => {
  it('gives up at its deadline and names what it waited for', async () => {
    await expect(until(() => false, { timeoutMs: 30, what: 'pigs fly' })).rejects.toThrow(
      'not within 30 ms: pigs fly',
    );
  });
});
