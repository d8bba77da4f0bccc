// SPDX-License-Identifier: Apache-2.0
// Carries connections to a local port or Unix socket, and can be cut like a cable: while it is, bytes of both directions are lost and nobody is told.
// It can also be as long as a cable: what it carries to the server arrives later.
import { connect, createServer, type Socket } from 'node:net';

export interface Relay extends AsyncDisposable {
  /** On 127.0.0.1; 0 where it listens on a Unix socket. */
  readonly port: number;
  cut(): void;
  /** From now on new connections pass; those that lost bytes are reset. */
  mend(): void;
  /** From now on what clients send arrives so many milliseconds later, in its order. */
  delay(ms: number): void;
}

/** `to`: a port on 127.0.0.1, or a Unix socket, which need not be there yet. `at`: the Unix socket to listen on; default: a free port. */
export async function startRelay(to: number | string, at?: string): Promise<Relay> {
  const open = new Set<Socket>();
  const harmed = new Set<Socket>();
  let isCut = false;
  let delayMs = 0;
  const server = createServer((outside) => {
    const inside = connect(
      typeof to === 'string' ? { path: to } : { host: '127.0.0.1', port: to, noDelay: true },
    );
    for (const [from, other] of [
      [outside, inside],
      [inside, outside],
    ] as const) {
      open.add(from);
      let lastMs = 0;
      const carry = (bytes: Buffer) => {
        const nowMs = performance.now();
        lastMs = Math.max(lastMs, from === outside ? nowMs + delayMs : nowMs);
        if (lastMs <= nowMs) other.write(bytes);
        else setTimeout(() => other.write(bytes), lastMs - nowMs);
      };
      from.on('error', () => from.destroy()); // a peer's reset is its own business
      from.on('data', (bytes) => {
        if (isCut) harmed.add(outside).add(inside);
        else carry(bytes);
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
    if (at === undefined) server.listen(0, '127.0.0.1', resolve);
    else server.listen(at, resolve);
  });
  const address = server.address();
  return {
    port: address === null || typeof address === 'string' ? 0 : address.port,
    cut: () => {
      isCut = true;
    },
    delay: (ms) => {
      delayMs = ms;
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
