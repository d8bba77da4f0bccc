// SPDX-License-Identifier: Apache-2.0
/**
 * Captures packets on a device of a namespace with tcpdump.
 *
 * A device that carries an XDP program shows only what the program passed up, and nothing that was redirected into it:
 * capture at the other end of the link.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Fault } from '@detour/core';
import type { Lab } from './lab.js';
import { type CapturedPacket, parsePcap } from './pcap.js';
import { waitFor } from './wait.js';

export interface Capture extends AsyncDisposable {
  /** The pcap file; removed with the lab. */
  readonly file: string;
  /** What has been captured so far, oldest first. */
  packets(): CapturedPacket[];
  /** Ends it when no packet has come for 40 ms, and returns all. @throws Fault when the kernel dropped packets meanwhile. */
  stop(): Promise<CapturedPacket[]>;
}

export interface CaptureOptions {
  /** In tcpdump's language, for example `udp port 4789`; default everything. */
  readonly filter?: string;
  /** Default both. */
  readonly direction?: 'in' | 'out';
  /** Bytes kept of each packet; default 2,048. More makes the kernel's ring hold fewer packets. */
  readonly snapBytes?: number;
}

/** How long a capture is waited for to have written what it has seen; where traffic goes on, there is always more. */
const SETTLE_MS = 500;

let captures = 0;

/** Returns once packets are being captured. @throws Fault with tcpdump's message, for example for a bad filter. */
export async function startCapture(
  lab: Lab,
  ns: string,
  device: string,
  options: CaptureOptions = {},
): Promise<Capture> {
  captures += 1;
  const name = `capture-${captures}`;
  const file = join(lab.dir, `${ns}-${device}-${name}.pcap`);
  const argv = [
    'tcpdump',
    '-i',
    device,
    '-n',
    '-U',
    '-s',
    String(options.snapBytes ?? 2_048),
    '-B',
    '32768',
    '-Z',
    'root',
    '--immediate-mode',
    '-w',
    file,
  ];
  if (options.direction) argv.push('-Q', options.direction);
  if (options.filter) argv.push(options.filter);
  const tcpdump = lab.spawn(ns, argv, { name });
  const isListening = (): boolean => {
    if (tcpdump.log().includes('listening on')) return true;
    if (tcpdump.isRunning()) return false;
    throw new Fault('invalid', `capture on ${device} in ${ns}: ${tcpdump.log().trim()}`);
  };
  await waitFor(isListening, { what: `tcpdump on ${device} in ${ns}`, everyMs: 5 });
  const packets = (): CapturedPacket[] => parsePcap(readFileSync(file));
  return {
    file,
    packets,
    async stop() {
      const until = performance.now() + SETTLE_MS;
      for (let size = -1; size !== statSync(file).size && performance.now() < until; await delay(40))
        size = statSync(file).size;
      tcpdump.signal('SIGINT');
      await tcpdump.exited;
      const dropped = Number(/(\d+) packets? dropped by kernel/.exec(tcpdump.log())?.[1] ?? 0);
      if (dropped > 0) {
        throw new Fault(
          'exhausted',
          `capture on ${device} in ${ns}: the kernel dropped ${dropped} packets: narrow the filter`,
        );
      }
      return packets();
    },
    [Symbol.asyncDispose]: () => tcpdump.kill(),
  };
}
