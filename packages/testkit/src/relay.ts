// SPDX-License-Identifier: Apache-2.0
// Carries TCP connections to a local port, and can be cut like a cable: while it is, bytes of both directions are lost and nobody is told.
import { connect, createServer, type Socket } from 'node:net';

export interface Relay extends AsyncDisposable {
  readonly port: number;
  cut(): void;
  /** From now on new connections pass; those that lost bytes are reset. */
  mend(): void;
}

export async function startRelay(to: number): Promise<Relay> {
  const open = new Set<Socket>();
  const harmed = new Set<Socket>();
  let isCut = false;
  const server = createServer((outside) => {
    const inside = connect({ host: '127.0.0.1', port: to, noDelay: true });
    for (const [from, other] of [
      [outside, inside],
      [inside, outside],
    ] as const) {
      open.add(from);
      from.on('error', () => from.destroy()); // a peer's reset is its own business
      from.on('data', (bytes) => {
        if (isCut) harmed.add(outside).add(inside);
        else other.write(bytes);
      });
      from.on('close', () => {
        open.delete(from);
        if (isCut) harmed.add(other);
        else other.destroy();
      });
    }
    if (isCut) harmed.add(outside).add(inside);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the relay has no port');
  return {
    port: address.port,
    cut: () => {
      isCut = true;
    },
    mend: () => {
      isCut = false;
      for (const socket of harmed) socket.destroy();
      harmed.clear();
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
