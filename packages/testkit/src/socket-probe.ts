// SPDX-License-Identifier: Apache-2.0
// Asks a server one thing over a plain socket and looks at the first bytes that come back.
import { connect, type NetConnectOpts } from 'node:net';

/** Whether a connection to `target`, after sending `say`, yields text that contains `expect` within a second. */
export function answersWith(target: NetConnectOpts, say: string, expect: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(target);
    let text = '';
    const finish = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1_000, () => finish(false));
    socket.on('error', () => finish(false));
    socket.on('close', () => finish(false));
    socket.on('connect', () => {
      if (say !== '') socket.write(say);
    });
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (text.includes(expect)) finish(true);
    });
  });
}
