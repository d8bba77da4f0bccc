// SPDX-License-Identifier: Apache-2.0
/**
 * Carries connections from a Unix socket to a TCP address of its own namespace, a program of its own.
 * In: arguments SOCKET ADDRESS PORT. Out: `ready` once it listens.
 */
import { connect, createServer } from 'node:net';
import { pipeline } from 'node:stream';

const [socketPath = '', host = '', port] = process.argv.slice(2);

const server = createServer({ allowHalfOpen: true }, (outside) => {
  const inside = connect({ host, port: Number(port), allowHalfOpen: true, noDelay: true });
  const end = (error: unknown): void => {
    if (!error) return; // one direction ended in order; the other may go on
    outside.destroy();
    inside.destroy();
  };
  pipeline(outside, inside, end);
  pipeline(inside, outside, end);
});
server.listen(socketPath, () => console.log('ready'));
