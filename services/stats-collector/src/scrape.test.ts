// SPDX-License-Identifier: Apache-2.0
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Fault } from '@detour/core';
import { afterEach, describe, expect, it } from 'vitest';
import { MAX_SCRAPE_BYTES, scrapeText } from './scrape.js';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
}

const scrape = (url: string, deadlineMs = 5000) =>
  scrapeText({ url, deadlineMs, signal: new AbortController().signal });

async function faultOf(promise: Promise<unknown>): Promise<Fault> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Fault)) throw new Error(`no Fault: ${String(error)}`);
  return error;
}

describe('scrapeText', () => {
  it('reads a whole answer', async () => {
    const url = await serve((_, response) => response.end('m 1\n'));
    expect(await scrape(url)).toBe('m 1\n');
  });

  it('gives up on an exporter that does not end its answer in time', async () => {
    const url = await serve((_, response) => response.write('m 1\n'));
    expect((await faultOf(scrape(url, 100))).code).toBe('timeout');
  });

  it('gives up on an answer without end', async () => {
    const url = await serve((_, response) => {
      const chunk = Buffer.alloc(1 << 20, 'm 1\n');
      const pump = () => {
        while (!response.destroyed && response.write(chunk));
        if (!response.destroyed) response.once('drain', pump);
      };
      pump();
    });
    const fault = await faultOf(scrape(url));
    expect(fault.code).toBe('exhausted');
    expect(fault.detail).toContain(`${MAX_SCRAPE_BYTES} bytes`);
  });

  it('names the URL and the status, follows no redirect, and says who refuses connections', async () => {
    const missing = await serve((_, response) => response.writeHead(404).end());
    expect((await faultOf(scrape(missing))).detail).toContain(`${missing} answered HTTP 404`);
    const moved = await serve((_, response) => response.writeHead(302, { location: missing }).end());
    expect((await faultOf(scrape(moved))).code).toBe('unavailable');
    const closed = await faultOf(scrape('http://127.0.0.1:9/metrics'));
    expect(closed.code).toBe('unavailable');
    expect(closed.detail).toContain('127.0.0.1:9');
  });
});
