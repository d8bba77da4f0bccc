// SPDX-License-Identifier: Apache-2.0
// Runs inside the client's namespace: sends packets of many flows, at a rate or as fast as they arrive, and reads what the server noted.
// In: the device, the gateway's MAC, the pinned map of bpf/server.bpf.c.
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { mapArray, openPacketSocket, openPinnedMap } from '@detour/bpf';
import { serveAgent } from '../agent.js';
import { type ClientReply, type ClientRequest, frameMaker } from './client-protocol.js';
import { clearEnds, readArrived, readEnds } from './ends.js';

const [device = '', dmac = '', pin = ''] = process.argv.slice(2);
const BURST = 64;
const TICK_MS = 1;
const SETTLE_MS = 50;

const socket = openPacketSocket(device);
const ends = mapArray(openPinnedMap(pin)).element(0);
const frameOf = frameMaker(dmac, BURST);
let pacing: { stop: AbortController; done: Promise<number> } | undefined;

function sendFlows(from: number, count: number): number {
  return socket.sendMany(Array.from({ length: count }, (_, i) => frameOf(from + i)));
}

async function open(request: Extract<ClientRequest, { op: 'open' }>): Promise<ClientReply> {
  clearEnds(ends, request.answering);
  const began = process.hrtime.bigint();
  const until = performance.now() + request.timeoutMs;
  let sent = 0;
  while (performance.now() < until) {
    const arrived = readArrived(ends);
    if (arrived >= request.count) break;
    const room = Math.min(BURST, request.count - sent, request.window - (sent - arrived));
    if (room > 0) sent += sendFlows(request.first + sent, room);
    else await delay(TICK_MS); // not spinning: the services need the CPU
    await setImmediate();
  }
  return reply(sent, began);
}

/** Sends `count` flows in turn; what could not be sent in time is sent in the next turn. */
async function pace(
  { first, count, pps }: { first: number; count: number; pps: number },
  signal: AbortSignal,
): Promise<number> {
  const from = performance.now();
  let sent = 0;
  while (!signal.aborted) {
    const due = Math.floor(((performance.now() - from) / 1000) * pps);
    while (sent < due && !signal.aborted) {
      await setImmediate(); // the end is heard also where more is due than can be sent
      const at = sent % count;
      const went = sendFlows(first + at, Math.min(BURST, due - sent, count - at));
      sent += went;
      if (went === 0) break;
    }
    await delay(TICK_MS);
  }
  return sent;
}

function reply(sent: number, began: bigint): ClientReply {
  const now = readEnds(ends);
  return {
    sent,
    arrived: now.arrived,
    seconds: Number(now.lastNs - began) / 1e9,
    longestSilenceMs: Number(now.silenceNs) / 1e6,
    silenceFromNs: String(now.silenceFromNs),
    firstNs: String(now.firstNs),
    lastNs: String(now.lastNs),
  };
}

async function stop(): Promise<number> {
  const running = pacing;
  pacing = undefined;
  running?.stop.abort();
  const sent = (await running?.done) ?? 0;
  await delay(SETTLE_MS);
  return sent;
}

await serveAgent<ClientRequest, ClientReply>(async (request) => {
  const began = process.hrtime.bigint();
  switch (request.op) {
    case 'open':
      return open(request);
    case 'read':
      return reply(0, began);
    case 'clear':
      clearEnds(ends, request.answering);
      return reply(0, began);
    case 'start': {
      await stop();
      const controller = new AbortController();
      pacing = { stop: controller, done: pace(request, controller.signal) };
      return reply(0, began);
    }
    case 'pace': {
      const sent = await pace(request, AbortSignal.timeout(request.ms));
      await delay(SETTLE_MS);
      return reply(sent, began);
    }
    case 'stop':
      return reply(await stop(), began);
  }
});
