// SPDX-License-Identifier: Apache-2.0
// HTTP for operators and scrapers: /ready (200, or 503 and why), /healthz, /metrics.
import { createServer, type ServerResponse } from 'node:http';
import { describeError, Fault } from '@detour/core';
import type { HostPort } from './settings.js';

export interface OpsServer extends AsyncDisposable {
  /** host:port with the real port. */
  readonly address: string;
}

export interface OpsServerSpec {
  readonly listen: HostPort;
  /** Body of /ready and whether it is a yes. */
  readonly ready: () => { ready: boolean };
  /** Prometheus text. */
  readonly metrics: () => Promise<string> | string;
}

function answer(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type }).end(body);
}

/** @throws Fault `unavailable` when the address cannot be listened on. */
export async function serveOps(spec: OpsServerSpec): Promise<OpsServer> {
  const { host, port } = spec.listen;
  const server = createServer((request, response) => {
    switch (request.url) {
      case '/ready': {
        const report = spec.ready();
        return answer(response, report.ready ? 200 : 503, 'application/json', `${JSON.stringify(report)}\n`);
      }
      case '/healthz':
        return answer(response, 200, 'text/plain', 'alive\n');
      case '/metrics':
        Promise.resolve()
          .then(() => spec.metrics())
          .then(
            (text) => answer(response, 200, 'text/plain; version=0.0.4; charset=utf-8', text),
            (error: unknown) => answer(response, 500, 'text/plain', `${describeError(error)}\n`),
          );
        return;
      default:
        return answer(response, 404, 'text/plain', 'try /ready, /healthz or /metrics\n');
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'the port is taken' : error.message;
      const detail = `DETOUR_METRICS: cannot listen on ${host}:${port}: ${why}; give a free address of this machine`;
      reject(new Fault('unavailable', detail, error));
    });
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  const real = bound !== null && typeof bound === 'object' ? bound.port : port;
  return {
    address: `${host.includes(':') ? `[${host}]` : host}:${real}`,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
