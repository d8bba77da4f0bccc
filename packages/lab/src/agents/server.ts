// SPDX-License-Identifier: Apache-2.0
/**
 * The lab's server, a program of its own: HTTP, TCP echo and UDP echo on all addresses of its namespace.
 * In: one argument, `{"http":[port],"echo":[port],"workers":n}`. Out: `ready` on standard output once it listens.
 * `GET /bytes/N` answers N bytes; any other path answers who asked, as JSON.
 */
import cluster from 'node:cluster';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';

interface ServerConfig {
  readonly http: readonly number[];
  readonly echo: readonly number[];
  readonly workers: number;
}

const maxBytes = 1 << 30;
const config = JSON.parse(process.argv[2] ?? '') as ServerConfig;

if (config.workers > 1 && cluster.isPrimary) {
  const workers = Array.from({ length: config.workers }, () => cluster.fork());
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  await serveUdp();
  console.log('ready');
} else {
  await serveTcp();
  if (cluster.isPrimary) {
    await serveUdp();
    console.log('ready');
  } else process.send?.('ready');
}

async function serveTcp(): Promise<void> {
  const listening = config.http.map(async (port) => {
    const server = createHttpServer({ keepAliveTimeout: 0 }, (request, response) => {
      const bytes = /^\/bytes\/(\d{1,10})$/.exec(request.url ?? '')?.[1];
      if (bytes !== undefined) {
        response.end(Buffer.alloc(Math.min(Number(bytes), maxBytes)));
        return;
      }
      const { remoteAddress, remotePort, localAddress, localPort } = request.socket;
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ remoteAddress, remotePort, localAddress, localPort, path: request.url }));
    });
    server.listen({ port, host: '::', backlog: 4096 });
    await once(server, 'listening');
  });
  const echoing = config.echo.map(async (port) => {
    const server = createTcpServer({ noDelay: true }, (socket) => {
      socket.on('error', () => socket.destroy()); // a peer that resets is its own business
      socket.pipe(socket);
    });
    server.listen({ port, host: '::', backlog: 4096 });
    await once(server, 'listening');
  });
  await Promise.all([...listening, ...echoing]);
}

async function serveUdp(): Promise<void> {
  const listening = config.echo.map(async (port) => {
    const socket = createSocket({ type: 'udp6', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
    socket.on('message', (message, from) => socket.send(message, from.port, from.address));
    socket.on('error', () => undefined); // an ICMP error about an earlier answer
    socket.bind(port, '::');
    await once(socket, 'listening');
  });
  await Promise.all(listening);
}
