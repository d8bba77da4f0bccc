// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CountersResponse,
  FlowRow,
  GatewayClient,
  type GatewayServer,
  GatewayService,
  GatewayStatus,
  GetFlowsRequest,
  GetStatusRequest,
  ProgramFlowResponse,
  TablesResponse,
  TraceRequest,
  TraceResponse,
} from '@detour/contracts';
import { FAULT_CODES, Fault, silentLog } from '@detour/core';
import { until } from '@detour/testkit';
import { describe, expect, it, onTestFinished } from 'vitest';
import { callUnary, connectClient, readStream } from './client.js';
import { serverStream, unary } from './handlers.js';
import { implement, serve } from './serve.js';

function gateway(overrides: Partial<GatewayServer> = {}) {
  return implement(GatewayService, {
    trace: unary(() => TraceResponse.create()),
    getFlows: serverStream(async function* () {
      yield FlowRow.create();
    }),
    getStatus: unary(() => GatewayStatus.create({ gateway: 'edge1' })),
    getCounters: unary(() => CountersResponse.create()),
    getTables: unary(() => TablesResponse.create()),
    programFlow: unary(() => ProgramFlowResponse.create()),
    ...overrides,
  });
}
const listen = (address: string, overrides: Partial<GatewayServer> = {}) =>
  serve({ address, log: silentLog, services: [gateway(overrides)] });
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'no fault',
    (error: unknown) => (error instanceof Fault ? error.code : error),
  );

describe('serve', () => {
  it('answers on a free port and tells it', async () => {
    await using server = await listen('127.0.0.1:0');
    expect(server.address).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
    using peer = connectClient(GatewayClient, server.address);
    const status = await callUnary(peer.client.getStatus.bind(peer.client), GetStatusRequest.create(), {
      deadlineMs: 2_000,
    });
    expect(status.gateway).toBe('edge1');
  });

  it('says that a port is taken', async () => {
    await using server = await listen('127.0.0.1:0');
    await expect(listen(server.address)).rejects.toThrow(
      `cannot serve gRPC on ${server.address}: the port is taken`,
    );
  });

  it('replaces a stale unix socket, refuses a live one, and removes its own', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'detour-rpc-'));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const path = join(dir, 'sub', 'x.sock');
    {
      await using server = await listen(`unix:${path}`);
      using peer = connectClient(GatewayClient, server.address);
      await callUnary(peer.client.getStatus.bind(peer.client), GetStatusRequest.create(), {
        deadlineMs: 2_000,
      });
      await expect(listen(`unix:${path}`)).rejects.toThrow('another process listens there');
    }
    expect(existsSync(path)).toBe(false);
    writeFileSync(path, '');
    await using again = await listen(`unix:${path}`);
    using peer = connectClient(GatewayClient, again.address);
    await callUnary(peer.client.getStatus.bind(peer.client), GetStatusRequest.create(), {
      deadlineMs: 2_000,
    });
  });

  it('ends calls that do not end by themselves when it closes', async () => {
    let arrived = false;
    let gone = false;
    const server = await listen('127.0.0.1:0', {
      trace: unary(
        (_, { signal }) =>
          new Promise<never>((_resolve, reject) => {
            arrived = true;
            signal.addEventListener('abort', () => {
              gone = true;
              reject(signal.reason);
            });
          }),
      ),
    });
    using peer = connectClient(GatewayClient, server.address);
    const call = codeOf(
      callUnary(peer.client.trace.bind(peer.client), TraceRequest.create(), { deadlineMs: 10_000 }),
    );
    await until(() => arrived);
    await server[Symbol.asyncDispose]();
    expect(await call).toBe('unavailable');
    await until(() => gone);
  });
});

describe('callUnary', () => {
  it('brings every fault code over the wire, with its detail', async () => {
    let code: (typeof FAULT_CODES)[number] = 'invalid';
    await using server = await listen('127.0.0.1:0', {
      trace: unary(() => {
        throw new Fault(code, `it is ${code}`);
      }),
    });
    using peer = connectClient(GatewayClient, server.address);
    for (code of FAULT_CODES) {
      const work = callUnary(peer.client.trace.bind(peer.client), TraceRequest.create(), {
        deadlineMs: 2_000,
      });
      await expect(work).rejects.toMatchObject({ code, detail: `it is ${code}` });
    }
  });

  it('gives up at its deadline and by its signal, and the server is told', async () => {
    let begun = 0;
    let cancelled = 0;
    await using server = await listen('127.0.0.1:0', {
      trace: unary((_, { signal }) => {
        begun += 1;
        signal.addEventListener('abort', () => {
          cancelled += 1;
        });
        return new Promise<never>(() => {});
      }),
    });
    using peer = connectClient(GatewayClient, server.address);
    const trace = peer.client.trace.bind(peer.client);
    expect(await codeOf(callUnary(trace, TraceRequest.create(), { deadlineMs: 50 }))).toBe('timeout');
    const stop = new AbortController();
    const call = codeOf(callUnary(trace, TraceRequest.create(), { deadlineMs: 5_000, signal: stop.signal }));
    await until(() => cancelled === 1);
    await until(() => begun === 2); // what is taken back before it was sent nobody hears of
    stop.abort();
    expect(await call).toBe('unavailable');
    await until(() => cancelled === 2);
  });

  it('says that nobody is there', async () => {
    using peer = connectClient(GatewayClient, '127.0.0.1:1');
    expect(
      await codeOf(
        callUnary(peer.client.getStatus.bind(peer.client), GetStatusRequest.create(), { deadlineMs: 2_000 }),
      ),
    ).toBe('unavailable');
  });
});

describe('readStream', () => {
  it('reads all, breaks off early, and throws the Fault of the server', async () => {
    let closed = 0;
    await using server = await listen('127.0.0.1:0', {
      getFlows: serverStream(async function* (request: GetFlowsRequest) {
        try {
          for (let i = 0; i < request.limit; i++) yield FlowRow.create({ path: i });
          if (request.node === 'bad') throw new Fault('not_found', 'no node bad');
        } finally {
          closed += 1;
        }
      }),
    });
    using peer = connectClient(GatewayClient, server.address);
    let read = 0;
    for await (const row of readStream(peer.client.getFlows(GetFlowsRequest.create({ limit: 5_000 })))) {
      expect(row.path).toBe(read++);
    }
    expect(read).toBe(5_000);
    for await (const _ of readStream(peer.client.getFlows(GetFlowsRequest.create({ limit: 1_000_000 }))))
      break;
    await until(() => closed === 2);
    const bad = async () => {
      for await (const _ of readStream(
        peer.client.getFlows(GetFlowsRequest.create({ limit: 3, node: 'bad' })),
      ))
        read++;
    };
    await expect(bad()).rejects.toMatchObject({ code: 'not_found', detail: 'no node bad' });
  });
});
