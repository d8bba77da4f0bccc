// SPDX-License-Identifier: Apache-2.0
// Runs inside the generator's namespace: puts frames on a device as it is told, and says what it sent.
import { mapArray, openObject, progTestRun } from '@detour/bpf';
import { serveAgent } from '../agent.js';
import {
  decodeGenerator,
  encodeGenerator,
  type GeneratorCommand,
  type GeneratorReply,
} from './generator-protocol.js';

const FRAME_BYTES = 64;

using object = openObject(process.argv[2] ?? '');
using shared = mapArray(object.map('generator'));
const program = object.program('bench_generate');
const frame = new Uint8Array(FRAME_BYTES);

await serveAgent<GeneratorCommand, GeneratorReply>((command) => {
  const element = shared.element(0);
  encodeGenerator(command, element);
  const cpu = process.cpuUsage();
  progTestRun(program, { data: frame, liveFrames: true, repeat: command.packets });
  const { user, system } = process.cpuUsage(cpu);
  return { ...decodeGenerator(element), cpuSeconds: (user + system) / 1e6 };
});
