// SPDX-License-Identifier: Apache-2.0
/** Sends crafted frames out of a device of a namespace, exactly as given, through AF_PACKET. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import type { Lab } from './lab.js';

export interface RawSender extends AsyncDisposable {
  /** Sends the frames in order; resolves when the kernel has taken all of them. */
  send(frames: Iterable<Uint8Array>): Promise<void>;
  close(): Promise<void>;
}

const batchFrames = 512;

/** @throws Fault when the device does not exist (at the first `send`). */
export function startRawSender(lab: Lab, ns: string, device: string): RawSender {
  const script = fileURLToPath(new URL('../src/agents/raw_send.py', import.meta.url));
  const sender = lab.spawn(ns, ['python3', '-u', script, device], { name: `raw-${device}`, stdio: 'pipe' });
  const { stdin, stdout } = sender.child;
  if (stdin === null || stdout === null) throw new Fault('internal', 'the raw sender has no pipes');
  stdin.on('error', () => undefined); // its end is reported below
  const answers = createInterface({ input: stdout })[Symbol.asyncIterator]();
  let sent = 0;
  const write = async (text: string): Promise<void> => {
    if (!stdin.write(text)) await Promise.race([once(stdin, 'drain'), sender.exited]);
  };
  const close = (): Promise<void> => sender.kill();
  return {
    async send(frames) {
      let lines: string[] = [];
      for (const frame of frames) {
        sent += 1;
        lines.push(`${Buffer.from(frame).toString('base64')}\n`);
        if (lines.length === batchFrames) {
          await write(lines.join(''));
          lines = [];
        }
      }
      await write(`${lines.join('')}\n`);
      const answer = await answers.next();
      if (answer.done || Number(answer.value) !== sent) {
        throw new Fault(
          'internal',
          `raw frames on ${device} in ${ns}: ${sender.log().trim().split('\n').at(-1)}`,
        );
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
