// SPDX-License-Identifier: Apache-2.0
/**
 * The lab's OTLP/HTTP receiver, a program of its own. In: `POST /v1/traces` with protobuf, plain or gzip, on the address
 * and port of its arguments. Out, on standard output: `ready`, then each request's spans as one JSON array a line.
 */
import { createServer } from 'node:http';
import { gunzipSync } from 'node:zlib';
import { decodeSpans } from '../otlp-spans.js';

const maxBodyBytes = 16 << 20;
const [address, port] = process.argv.slice(2);

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= maxBodyBytes) chunks.push(chunk);
  });
  request.once('end', () => {
    if (request.url !== '/v1/traces' || bytes > maxBodyBytes) {
      response.writeHead(request.url === '/v1/traces' ? 413 : 404).end();
      return;
    }
    try {
      const body = Buffer.concat(chunks);
      const plain =
        request.headers['content-encoding'] === 'gzip'
          ? gunzipSync(body, { maxOutputLength: maxBodyBytes })
          : body;
      console.log(JSON.stringify(decodeSpans(plain)));
      // An empty ExportTraceServiceResponse: everything was accepted.
      response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
    } catch (error) {
      console.error(`refused ${bytes} bytes: ${String(error)}`);
      response.writeHead(400).end();
    }
  });
});
server.listen({ host: address, port: Number(port) }, () => console.log('ready'));
