// SPDX-License-Identifier: Apache-2.0
/**
 * The same first packets out of several devices at nearly the same moment, as a program of its own inside a namespace.
 * In: one argument, TwinsConfig as JSON; requests of twins.ts on standard input. Out: one answer each on standard output.
 */
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { openPacketSocket } from '@detour/bpf';
import { CrowdWire } from './crowd-wire.js';
import type { SendTwins, TwinsConfig, TwinsSent } from './twins.js';

const FRAME_BYTES = 128;
const AT_ONCE = 8;

const { devices, ...place } = JSON.parse(process.argv[2] ?? '') as TwinsConfig;
const outs = devices.map(({ device, gatewayMac }) => ({
  device,
  socket: openPacketSocket(device, { maxFrame: 2_048 }),
  wire: new CrowdWire({ ...place, gatewayMac }),
}));

async function send({
  first,
  count,
  proto,
  kind,
  to,
  everyMs,
  atOnce = AT_ONCE,
}: SendTwins): Promise<TwinsSent> {
  const used = outs.filter(({ device }) => to.includes(device));
  let within1Ms = 0;
  for (let from = first; from < first + count; from += atOnce) {
    const flows = Array.from({ length: Math.min(atOnce, first + count - from) }, (_, i) => from + i);
    const batches = used.map(({ socket, wire }, twin) => {
      const number = kind === 'syn' ? 0 : twin + 1;
      const frames = flows.map((flow) => {
        const frame = new Uint8Array(FRAME_BYTES);
        const fields = { flow, proto, kind, number, heard: 0, nowMs: performance.now() };
        return frame.subarray(0, wire.build(fields, frame));
      });
      return { socket, frames };
    });
    const beganMs = performance.now();
    for (const { socket, frames } of batches)
      for (let rest = frames; rest.length > 0; ) rest = rest.slice(socket.sendMany(rest));
    if (performance.now() - beganMs < 1) within1Ms += flows.length;
    await pause(everyMs);
  }
  return { within1Ms };
}

const input = createInterface({ input: process.stdin });
input.on('line', async (line) => {
  const { id, ...request } = JSON.parse(line) as { id: number } & SendTwins;
  try {
    process.stdout.write(`${JSON.stringify({ id, ok: true, value: await send(request) })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ id, ok: false, error: String(error) })}\n`);
  }
});
input.on('close', () => {
  for (const { socket } of outs) socket.close();
});
