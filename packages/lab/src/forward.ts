// SPDX-License-Identifier: Apache-2.0
/** Makes a TCP server inside a namespace reachable from outside, on a loopback port. */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import type { Endpoint } from './agents/protocol.js';
import type { Lab } from './lab.js';
import { waitFor } from './wait.js';

export interface Forward extends AsyncDisposable {
  /** On 127.0.0.1 of the caller's namespace. */
  readonly port: number;
  close(): Promise<void>;
}

/** @param to an address and port of the namespace; nothing needs to listen there yet. */
export async function startForward(lab: Lab, ns: string, to: Endpoint): Promise<Forward> {
  const main = fileURLToPath(new URL('../dist/agents/forward.js', import.meta.url));
  const name = `forward-${to.port}`;
  const socketPath = join(lab.dir, `${ns}-${name}.sock`);
  const inside = lab.spawn(ns, [process.execPath, main, socketPath, to.address, String(to.port)], { name });
  await waitFor(() => inside.log().includes('ready') || !inside.isRunning(), { what: `${name} in ${ns}` });
  if (!inside.isRunning()) throw new Fault('internal', `${name} in ${ns}: ${inside.log().trim()}`);
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const carried = connect({ path: socketPath, allowHalfOpen: true });
    const end = (error: unknown): void => {
      if (!error) return;
      socket.destroy();
      carried.destroy();
    };
    pipeline(socket, carried, end);
    pipeline(carried, socket, end);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Fault('internal', `${name}: no port was bound`);
  const close = async (): Promise<void> => {
    server.close();
    await inside.kill(); // ends every connection that it carried
  };
  return { port: bound.port, close, [Symbol.asyncDispose]: close };
}
