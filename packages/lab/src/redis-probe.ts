// SPDX-License-Identifier: Apache-2.0
/** Asks a Redis on a Unix socket whether it serves. */
import { connect } from 'node:net';

/** @returns undefined when it answers PING, otherwise why not. */
export function probeRedis(socketPath: string, timeoutMs = 1_000): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    const end = (why: string | undefined): void => {
      socket.destroy();
      resolve(why);
    };
    socket.setTimeout(timeoutMs, () => end('no answer'));
    socket.once('error', (error) => end(error.message));
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (answer) => {
      const text = answer.toString().trim();
      end(text === '+PONG' ? undefined : text); // -LOADING while it reads its data
    });
  });
}
