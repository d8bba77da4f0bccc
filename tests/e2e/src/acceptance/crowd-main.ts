// SPDX-License-Identifier: Apache-2.0
/**
 * One side of a crowd as a program of its own, inside a namespace.
 * In: one argument, CrowdSideOptions' data and the device as JSON; requests of crowd-protocol.ts on standard input.
 * Out: their responses on standard output. It ends with its input.
 */
import { createInterface } from 'node:readline';
import { openPacketSocket } from '@detour/bpf';
import type { CrowdRequest, CrowdResponse } from './crowd-protocol.js';
import { CrowdSide } from './crowd-side.js';
import type { CrowdPlace } from './crowd-wire.js';

const PUMP_MS = 2;
const config = JSON.parse(process.argv[2] ?? '') as CrowdPlace & { device: string; capacity: number };
const socket = openPacketSocket(config.device, { maxFrame: 2_048, receiveBuffer: 64 << 20 });
const side = new CrowdSide({
  ...config,
  sendMany: (frames) => socket.sendMany(frames),
  nowMs: () => performance.now(),
});
let due = false;
socket.receive((frame) => {
  side.take(frame);
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    side.pump();
  });
});
const timer = setInterval(() => side.pump(), PUMP_MS);

async function perform(request: CrowdRequest): Promise<unknown> {
  switch (request.op) {
    case 'open':
    case 'ask':
      return side.ask(request.op, request);
    case 'stream':
      return side.stream(request, request.pps);
    case 'stop':
      return side.stopStream();
    case 'report':
      return { ...side.report(), truncated: socket.truncated };
  }
}

const input = createInterface({ input: process.stdin });
input.on('line', async (line) => {
  const { id, ...request } = JSON.parse(line) as { id: number } & CrowdRequest;
  let response: CrowdResponse;
  try {
    response = { id, ok: true, value: (await perform(request as CrowdRequest)) ?? null };
  } catch (error) {
    response = { id, ok: false, error: error instanceof Error ? error.message : String(error) };
  }
  process.stdout.write(`${JSON.stringify(response)}\n`);
});
input.on('close', () => {
  clearInterval(timer);
  socket.close();
});
