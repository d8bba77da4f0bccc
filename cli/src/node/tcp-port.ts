// SPDX-License-Identifier: Apache-2.0
/** The TCP port by which a gateway asks whether an appliance is well: open while packets cross the pair. */
import { createServer, type Server } from 'node:net';

export interface TcpPort extends AsyncDisposable {
  setOpen(open: boolean): void;
  /** Milliseconds since the last connection from this address; null = none came. */
  agoMs(gateway: string): number | null;
  /** Why it cannot be opened; null when it can. */
  trouble(): string | null;
}

/** Listens on the underlay address, where the gateway asks, and on no other. */
export function openTcpPort(address: string, port: number): TcpPort {
  const last = new Map<string, number>();
  let server: Server | undefined;
  let trouble: string | null = null;
  const close = (): void => {
    server?.close();
    server = undefined;
  };
  return {
    setOpen: (open) => {
      if (open === (server !== undefined)) return;
      if (!open) return close();
      const opened = createServer((socket) => {
        if (socket.remoteAddress !== undefined) last.set(socket.remoteAddress, performance.now());
        socket.on('error', () => {}); // whoever asked has gone already
        socket.end();
      });
      opened.on('error', (error) => {
        trouble = `TCP port ${port} of ${address}: ${error.message}`;
        if (server === opened) server = undefined;
      });
      opened.on('listening', () => {
        trouble = null;
      });
      server = opened;
      opened.listen({ host: address, port, backlog: 16 });
    },
    agoMs: (gateway) => {
      const at = last.get(gateway);
      return at === undefined ? null : performance.now() - at;
    },
    trouble: () => trouble,
    [Symbol.asyncDispose]: async () => close(),
  };
}
