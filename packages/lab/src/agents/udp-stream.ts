// SPDX-License-Identifier: Apache-2.0
/** A numbered UDP stream at a fixed rate to an echo server, and what came back of it. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs } from './clock.js';
import type { Endpoint, UdpReport, UdpStart } from './protocol.js';
import { UdpTally } from './udp-tally.js';

const magic = 0x64743032;
const minBytes = 20;
const maxPps = 50_000;
/** Packets sent at once after a stall of this process; what is beyond is skipped, not made up for. */
const maxBurst = 2_000;

export interface UdpGroup {
  readonly localPorts: readonly Endpoint[];
  /** Stops sending, waits `settleMs` for what is under way, and reports. */
  stop(settleMs: number): Promise<UdpReport>;
}

/** @throws Error when a socket cannot be bound or an option is out of range. */
export async function startUdp(options: UdpStart): Promise<UdpGroup> {
  const sizeBytes = options.sizeBytes ?? 64;
  if (sizeBytes < minBytes) throw new Error(`sizeBytes: ${sizeBytes}: use at least ${minBytes}`);
  if (!(options.pps > 0 && options.pps <= maxPps)) throw new Error(`pps: ${options.pps}: use 1 to ${maxPps}`);
  const tally = new UdpTally();
  const sockets: Socket[] = [];
  for (let flow = 0; flow < (options.flows ?? 1); flow += 1) {
    const local = options.localAddresses[flow % options.localAddresses.length];
    const socket = await bindSocket(local, options.remote);
    socket.on('message', (message) => {
      if (message.length >= minBytes && message.readUInt32BE(0) === magic) {
        tally.receive(message.readUInt32BE(4), flow);
      }
    });
    sockets.push(socket);
  }
  const errorsBefore = receiveBufferErrors();
  const startMs = monotonicMs();
  let paced = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((monotonicMs() - startMs) * options.pps) / 1000);
    paced = Math.max(paced, due - maxBurst);
    for (; paced < due; paced += 1) {
      const sequence = tally.send(monotonicMs());
      const payload = Buffer.alloc(sizeBytes);
      payload.writeUInt32BE(magic, 0);
      payload.writeUInt32BE(sequence, 4);
      sockets[sequence % sockets.length]?.send(payload);
    }
  }, 1);
  return {
    localPorts: sockets.map((socket) => socket.address()),
    async stop(settleMs) {
      clearInterval(timer);
      await delay(settleMs);
      for (const socket of sockets) socket.close();
      return { ...tally.report(), receiveBufferErrors: receiveBufferErrors() - errorsBefore };
    },
  };
}

async function bindSocket(local: string | undefined, remote: Endpoint): Promise<Socket> {
  const type = remote.address.includes(':') ? 'udp6' : 'udp4';
  const socket = createSocket({ type, recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
  socket.bind(0, local);
  await once(socket, 'listening');
  socket.connect(remote.port, remote.address);
  await once(socket, 'connect');
  socket.on('error', () => undefined); // an ICMP error; what it stopped shows as loss
  return socket;
}

/** RcvbufErrors of this namespace, IPv4 and IPv6 (proc(5), /proc/net/snmp). */
function receiveBufferErrors(): number {
  const [names, values] = readFileSync('/proc/net/snmp', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(' '));
  const ipv4 = values?.[names?.indexOf('RcvbufErrors') ?? -1];
  const ipv6 = /^Udp6RcvbufErrors\s+(\d+)/m.exec(readFileSync('/proc/net/snmp6', 'utf8'))?.[1];
  return Number(ipv4 ?? 0) + Number(ipv6 ?? 0);
}
