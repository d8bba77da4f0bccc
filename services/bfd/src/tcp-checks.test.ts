// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { systemClock } from '@detour/core';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { SessionSpec, TcpState } from './loop-messages.js';
import { TcpChecks } from './tcp-checks.js';

const session = (port: number): SessionSpec => ({
  id: 'app1',
  node: 'app1',
  vrf: 'red',
  device: 'vti-app1',
  local: '192.0.0.8',
  peer: '192.0.0.8',
  hears: '192.0.0.8',
  end: null,
  multihop: null,
  timers: { desiredMinTxUs: 1, requiredMinRxUs: 1, detectMult: 3 },
  echo: null,
  noControl: true,
  tcp: { address: '127.0.0.1', port, everyMs: 50, multiplier: 3 },
});

async function listen(port = 0): Promise<{ port: number; close: () => void }> {
  const server = createServer((socket) => socket.destroy());
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

describe('TCP checks', () => {
  const told: [string, TcpState][] = [];
  afterEach(() => {
    told.length = 0;
  });

  it('says up when the port answers, down when it has not for so many times, up again; tells a session that is new', async () => {
    const running = new TcpChecks(systemClock(), (id, state) => told.push([id, state]));
    try {
      const first = await listen();
      running.follow([session(first.port)]);
      await vi.waitFor(() => expect(told).toEqual([['app1', 'up']]), { timeout: 5_000 });
      running.follow([session(first.port)]);
      expect(told).toEqual([
        ['app1', 'up'],
        ['app1', 'up'],
      ]);
      first.close();
      const closedAt = performance.now();
      await vi.waitFor(() => expect(told.at(-1)).toEqual(['app1', 'down']), { timeout: 5_000 });
      expect(performance.now() - closedAt).toBeGreaterThan(50); // not by the first failure
      const again = await listen(first.port);
      await vi.waitFor(() => expect(told.at(-1)).toEqual(['app1', 'up']), { timeout: 5_000 });
      again.close();
    } finally {
      running[Symbol.dispose]();
    }
  });

  it('asks no more when the session is gone', async () => {
    const running = new TcpChecks(systemClock(), (id, state) => told.push([id, state]));
    const server = await listen();
    running.follow([session(server.port)]);
    running.follow([]);
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(told).toEqual([]);
    server.close();
    running[Symbol.dispose]();
  });
});
