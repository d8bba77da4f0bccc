// SPDX-License-Identifier: Apache-2.0
// One tunnel-gw at a time for one pin directory: two would undo each other's tables. The claim is an abstract unix socket of this network
// namespace, which the kernel gives up with the process, however that ends.
import { createServer } from 'node:net';
import { Fault } from '@detour/core';

/** @throws Fault `conflict` when another process holds the claim. */
export async function claimDatapath(pinDir: string): Promise<AsyncDisposable> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const taken = cause.code === 'EADDRINUSE';
      const detail = taken
        ? `another tunnel-gw runs here and owns ${pinDir}: stop it first, or give this one a DETOUR_PIN_DIR of its own`
        : `the claim on ${pinDir} cannot be made: ${cause.message}`;
      reject(new Fault(taken ? 'conflict' : 'internal', detail, cause));
    });
    server.listen(`\0detour-tunnel-gw ${pinDir}`.slice(0, 107), resolve);
  });
  server.unref();
  return {
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
