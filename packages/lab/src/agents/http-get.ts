// SPDX-License-Identifier: Apache-2.0
/** One HTTP GET over a connection of its own, from a chosen local address and port. */
import { request } from 'node:http';
import { monotonicMs } from './clock.js';
import type { HttpGet, HttpResult } from './protocol.js';
import { codeOf } from './tcp-flows.js';

const maxBodyBytes = 64 << 20;

/** Never rejects: a failure is a result with its error code (`ETIMEDOUT` when nothing came in time). */
export function httpGet(options: HttpGet): Promise<HttpResult> {
  const startMs = monotonicMs();
  const tookMs = (): number => monotonicMs() - startMs;
  return new Promise((resolve) => {
    const call = request({
      host: options.remote.address,
      port: options.remote.port,
      path: options.path,
      agent: false,
      ...(options.localAddress && { localAddress: options.localAddress }),
      ...(options.localPort && { localPort: options.localPort }),
    });
    const timer = setTimeout(() => {
      call.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' }));
    }, options.timeoutMs ?? 3_000);
    call.once('error', (error) => {
      clearTimeout(timer);
      resolve({ ok: false, error: codeOf(error), tookMs: tookMs() });
    });
    call.once('response', (response) => {
      const localPort = response.socket.localPort ?? 0;
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > maxBodyBytes) call.destroy(new Error(`body over ${maxBodyBytes} bytes`));
        chunks.push(chunk);
      });
      response.once('end', () => {
        clearTimeout(timer);
        const body = Buffer.concat(chunks).toString();
        resolve({ ok: true, status: response.statusCode ?? 0, body, localPort, tookMs: tookMs() });
      });
    });
    call.end();
  });
}
