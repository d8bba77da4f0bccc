// SPDX-License-Identifier: Apache-2.0
/**
 * The node's end of BFD control sessions with its gateways (RFC 5880, RFC 5881): the same state machine as the gateway's, with Node's own UDP sockets.
 * That a packet came with TTL 255 is checked by the program on the devices, which drops others; the port is bound on the inner address only.
 */
import { randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import {
  type BfdState,
  bfdControlPort,
  detectAtUs,
  encodeBfdPacket,
  newSession,
  nextTxAtUs,
  parseBfdPacket,
  type Session,
  type SessionInput,
  step,
} from '@detour/wire';

export interface BfdView {
  readonly state: BfdState;
  readonly diag: number;
  /** null while nothing was heard. */
  readonly remoteState: BfdState | null;
  readonly remoteDiag: number;
  readonly sent: number;
  readonly received: number;
  /** Why no session can run; null when it can. */
  readonly trouble: string | null;
}

export interface BfdEnd {
  readonly local: string;
  readonly peer: string;
  readonly timers: {
    readonly desiredMinTxUs: number;
    readonly requiredMinRxUs: number;
    readonly detectMult: number;
  };
}

export interface BfdResponder extends AsyncDisposable {
  view(): BfdView;
}

const TTL = 255; // RFC 5881 section 5
const FIRST_SOURCE_PORT = 49_152; // RFC 5881 section 4
/** After a socket failed. */
const AGAIN_MS = 1_000;

type Happening =
  | { readonly kind: 'tick' | 'path-down' }
  | Pick<Extract<SessionInput, { kind: 'packet' }>, 'kind' | 'packet'>;

/** Runs until it is disposed of. `onChange` is called after each change of state. */
export function startBfd(end: BfdEnd, onChange: () => void): BfdResponder {
  const type = end.local.includes(':') ? 'udp6' : 'udp4';
  let session: Session = newSession(end.timers, randomInt(1, 2 ** 32));
  let sockets: { in: Socket; out: Socket } | undefined;
  let timer: NodeJS.Timeout | undefined;
  let trouble: string | null = null;
  let sent = 0;
  let received = 0;
  let closed = false;
  const nowUs = () => Number(process.hrtime.bigint() / 1000n);

  const happen = (input: Happening): void => {
    const [after, effects] = step(session, { ...input, nowUs: nowUs(), random: Math.random() });
    session = after;
    for (const effect of effects) {
      if (effect.kind === 'changed') onChange();
      else if (received > 0) {
        // The passive role (RFC 5880 section 6.1): nothing can go to a gateway before something came from it.
        sent += 1;
        sockets?.out.send(encodeBfdPacket(effect.packet), bfdControlPort, end.peer, (error) => {
          if (error !== null && !closed) trouble = `cannot send to ${end.peer} (${error.message})`;
          else trouble = null;
        });
      }
    }
    arm();
  };
  const arm = (): void => {
    clearTimeout(timer);
    if (closed || sockets === undefined) return;
    const due = [nextTxAtUs(session), detectAtUs(session)].filter((at) => at !== null);
    const waitMs = Math.min(AGAIN_MS, ...due.map((at) => (at - nowUs()) / 1000));
    timer = setTimeout(() => happen({ kind: 'tick' }), Math.max(0, Math.ceil(waitMs)));
  };
  const take = (data: Buffer, from: string): void => {
    if (closed || from !== end.peer) return;
    const parsed = parseBfdPacket(data);
    if (!parsed.ok) return;
    if (parsed.packet.yourDiscr !== 0 && parsed.packet.yourDiscr !== session.localDiscr) return; // RFC 5880 6.8.6
    received += 1;
    happen({ kind: 'packet', packet: parsed.packet });
  };
  const close = (): void => {
    clearTimeout(timer);
    for (const socket of sockets === undefined ? [] : [sockets.in, sockets.out]) socket.close();
    sockets = undefined;
  };
  const open = async (): Promise<void> => {
    if (closed) return;
    const pair = { in: createSocket(type), out: createSocket(type) };
    const fail = (error: Error & { code?: string }): void => {
      trouble =
        error.code === 'EADDRINUSE'
          ? `UDP port ${bfdControlPort} of ${end.local} is taken: another BFD daemon runs here; stop it, or set bfd: false`
          : `UDP on ${end.local}: ${error.message}`;
      if (sockets === pair) close();
      else for (const socket of [pair.in, pair.out]) socket.close();
      onChange();
      if (!closed) timer = setTimeout(() => void open(), AGAIN_MS);
    };
    try {
      await bind(pair.in, bfdControlPort, end.local);
      await bind(pair.out, randomInt(FIRST_SOURCE_PORT, 65_536), end.local);
      pair.out.setTTL(TTL);
      for (const socket of [pair.in, pair.out]) socket.on('error', fail);
      pair.in.on('message', (data, { address }) => take(data, address));
      sockets = pair;
      trouble = null;
      happen({ kind: 'tick' });
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  };
  void open();
  return {
    view: () => ({
      state: session.state,
      diag: session.diag,
      remoteState: received === 0 ? null : session.remote.state,
      remoteDiag: session.remote.diag,
      sent,
      received,
      trouble,
    }),
    [Symbol.asyncDispose]: async () => {
      closed = true; // from now on nothing is taken any more
      happen({ kind: 'path-down' }); // the gateway hears it at once
      await new Promise((resolve) => setImmediate(resolve));
      close();
    },
  };
}

function bind(socket: Socket, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ port, address, exclusive: true }, () => {
      socket.off('error', reject);
      resolve();
    });
  });
}
