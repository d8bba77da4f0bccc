// SPDX-License-Identifier: Apache-2.0
// Runs inside the generator's namespace: reads one JSON command a line, puts frames on a device, answers with what it sent.
import { createInterface } from 'node:readline';
import { mapArray, openObject, progTestRun } from '@detour/bpf';
import {
  decodeGenerator,
  encodeGenerator,
  type GeneratorCommand,
  type GeneratorReply,
} from './generator-protocol.js';

const FRAME_BYTES = 64;

const object = openObject(process.argv[2] ?? '');
const program = object.program('bench_generate');
const shared = mapArray(object.map('generator'));
const frame = new Uint8Array(FRAME_BYTES);

function send(command: GeneratorCommand): GeneratorReply {
  const element = shared.element(0);
  encodeGenerator(command, element);
  const cpu = process.cpuUsage();
  progTestRun(program, { data: frame, liveFrames: true, repeat: command.packets });
  const { user, system } = process.cpuUsage(cpu);
  return { ...decodeGenerator(element), cpuSeconds: (user + system) / 1e6 };
}

process.stdout.write('{"ready":true}\n');
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(send(JSON.parse(line)))}\n`);
}
shared.close();
object.close();
