// SPDX-License-Identifier: Apache-2.0
// A real nats-server on a free loopback port.
import { freePort } from './free-port.js';
import { type ServerProcess, startServer } from './server-process.js';
import { answersWith } from './socket-probe.js';

export interface NatsServer extends ServerProcess {
  /** `nats://127.0.0.1:<port>`; the same after a restart. */
  readonly url: string;
  readonly port: number;
}

/** Starts nats-server, with JetStream on files unless `jetstream` is false; answers once clients (and streams) are served. */
export async function startNats(options: { jetstream?: boolean; port?: number } = {}): Promise<NatsServer> {
  const { jetstream = true, port = await freePort() } = options;
  const streams =
    'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB _probe 1\r\nPUB $JS.API.INFO _probe 0\r\n\r\n';
  const server = await startServer({
    name: 'nats',
    command: 'nats-server',
    args: (dir) => [
      '-a',
      '127.0.0.1',
      '-p',
      String(port),
      ...(jetstream ? ['-js', '-sd', `${dir}/store`] : []),
    ],
    dataDir: 'store',
    probe: () =>
      jetstream
        ? answersWith({ host: '127.0.0.1', port }, streams, 'account_info_response')
        : answersWith({ host: '127.0.0.1', port }, '', 'INFO'),
  });
  return Object.defineProperties(server, {
    url: { value: `nats://127.0.0.1:${port}` },
    port: { value: port },
  }) as NatsServer;
}
