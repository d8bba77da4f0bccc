// SPDX-License-Identifier: Apache-2.0
/** Groups of TCP connections to an echo server: opened in bulk, kept, each sending numbered messages and timing the echo. */
import { connect, type Socket } from 'node:net';
import { monotonicMs } from './clock.js';
import type { TcpConnectionReport, TcpOpen, TcpOpened, TcpReport } from './protocol.js';

const messageBytes = 16;
const magic = 0x64743031;

interface Connection {
  readonly socket: Socket;
  readonly localAddress: string;
  readonly localPort: number;
  isOpen: boolean;
  error: string | undefined;
  sent: number;
  received: number;
  lastMs: number;
  maxGapMs: number;
  corrupt: boolean;
  rest: Buffer;
}

export interface TcpGroup {
  readonly connections: Connection[];
  stop(): void;
}

/** Opens `count` connections; those that fail are counted by error code. */
export async function openGroup(
  options: TcpOpen,
): Promise<{ group: TcpGroup; opened: Omit<TcpOpened, 'group'> }> {
  const connections: Connection[] = [];
  const failed: Record<string, number> = {};
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < options.count) {
      const localAddress = options.localAddresses[next % options.localAddresses.length];
      next += 1;
      try {
        connections.push(await openOne(options, localAddress));
      } catch (error) {
        const code = codeOf(error);
        failed[code] = (failed[code] ?? 0) + 1;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.concurrency ?? 256, options.count) }, worker));
  const stop = options.intervalMs ? sendRegularly(connections, options.intervalMs) : () => undefined;
  return { group: { connections, stop }, opened: { opened: connections.length, failed } };
}

function openOne({ remote, timeoutMs }: TcpOpen, localAddress: string | undefined): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: remote.address,
      port: remote.port,
      noDelay: true,
      ...(localAddress && { localAddress }),
    });
    const timer = setTimeout(
      () => socket.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })),
      timeoutMs ?? 5_000,
    );
    socket.once('error', reject);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', reject);
      const connection: Connection = {
        socket,
        localAddress: socket.localAddress ?? '',
        localPort: socket.localPort ?? 0,
        isOpen: true,
        error: undefined,
        sent: 0,
        received: 0,
        lastMs: monotonicMs(),
        maxGapMs: 0,
        corrupt: false,
        rest: Buffer.alloc(0),
      };
      socket.on('error', (error) => {
        connection.error = codeOf(error);
      });
      socket.on('close', () => {
        connection.isOpen = false;
      });
      socket.on('data', (chunk: Buffer) => receive(connection, chunk));
      resolve(connection);
    });
    socket.once('close', () => clearTimeout(timer));
  });
}

/** Spreads the sends of one interval over it, so that many connections do not speak at once. */
function sendRegularly(connections: Connection[], intervalMs: number): () => void {
  const startMs = monotonicMs();
  for (const connection of connections) connection.lastMs = startMs;
  let done = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((monotonicMs() - startMs) / intervalMs) * connections.length);
    if (due - done > connections.length) done = due - connections.length; // after a stall: one each, no burst
    for (; done < due; done += 1) {
      const connection = connections[done % connections.length];
      if (connection?.isOpen) send(connection);
    }
  }, 1);
  return () => clearInterval(timer);
}

function send(connection: Connection): void {
  const message = Buffer.alloc(messageBytes);
  message.writeUInt32BE(magic, 0);
  message.writeUInt32BE(connection.sent, 4);
  connection.sent += 1;
  connection.socket.write(message);
}

function receive(connection: Connection, chunk: Buffer): void {
  const nowMs = monotonicMs();
  const bytes = connection.rest.length > 0 ? Buffer.concat([connection.rest, chunk]) : chunk;
  let at = 0;
  for (; at + messageBytes <= bytes.length; at += messageBytes) {
    if (bytes.readUInt32BE(at) !== magic || bytes.readUInt32BE(at + 4) !== connection.received) {
      connection.corrupt = true;
    }
    connection.received += 1;
  }
  connection.rest = bytes.subarray(at);
  connection.maxGapMs = Math.max(connection.maxGapMs, nowMs - connection.lastMs);
  connection.lastMs = nowMs;
}

export function reportGroup(group: TcpGroup): TcpReport {
  const nowMs = monotonicMs();
  return {
    connections: group.connections.map((c): TcpConnectionReport => {
      const waiting = c.sent > c.received ? nowMs - c.lastMs : 0;
      return {
        localAddress: c.localAddress,
        localPort: c.localPort,
        isOpen: c.isOpen,
        ...(c.error !== undefined && { error: c.error }),
        sent: c.sent,
        received: c.received,
        maxGapMs: Math.max(c.maxGapMs, waiting),
        corrupt: c.corrupt,
      };
    }),
  };
}

/** Ends all connections and waits until their sockets are closed. */
export async function closeGroup(group: TcpGroup, how: 'fin' | 'rst'): Promise<void> {
  group.stop();
  const closing = group.connections.map(({ socket }) => {
    if (socket.destroyed) return undefined;
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const giveUp = setTimeout(() => socket.destroy(), 2_000); // the other side may be out of reach
    if (how === 'rst') socket.resetAndDestroy();
    else socket.end();
    return closed.finally(() => clearTimeout(giveUp));
  });
  await Promise.all(closing);
}

export function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return error instanceof Error ? error.message : String(error);
}
