// SPDX-License-Identifier: Apache-2.0
// Runs beside the gateway: notes when its tables are flipped, when bfd reports a node, when a revision becomes the head. All times are
// CLOCK_MONOTONIC. In: the pinned control map, bfd's socket, the gateway's name, NATS. It looks at the control word every tenth of a millisecond.
import { setImmediate } from 'node:timers/promises';
import { mapArray, openPinnedMap } from '@detour/bpf';
import { connectBus, openState, readIntentHead } from '@detour/bus';
import { abi, BfdClient, stateKey } from '@detour/contracts';
import { silentLog } from '@detour/core';
import { callUnary, connectClient, readStream } from '@detour/rpc';
import { serveAgent } from '../agent.js';
import type { WatcherReply, WatcherRequest } from './watcher-protocol.js';

const [pin = '', socket = '', gateway = '', nats = ''] = process.argv.slice(2);
const NAP_MS = 0.1;

const { signal } = new AbortController();
const control = mapArray(openPinnedMap(pin));
const nap = new Int32Array(new SharedArrayBuffer(4));
let noted: WatcherReply = { flips: [], health: [], heads: [] };

async function watchControl(): Promise<void> {
  const at = abi.control.offsets.bank;
  for (let bank = control.view.getUint32(at, true); ; ) {
    Atomics.wait(nap, 0, 0, NAP_MS);
    const now = control.view.getUint32(at, true);
    if (now !== bank) noted.flips.push({ atNs: String(process.hrtime.bigint()) });
    bank = now;
    await setImmediate();
  }
}

async function watchHealth(): Promise<void> {
  using connection = connectClient(BfdClient, socket);
  for await (const report of readStream(connection.client.watchHealth({ gateway, measureEveryMs: 0 }), {
    signal,
  })) {
    if (report.snapshot) continue;
    for (const node of report.nodes)
      noted.health.push({
        node: node.node,
        state: node.state,
        atNs: String(node.atMonoNs),
        detectTimeUs: Number(node.detectTimeUs),
      });
  }
}

async function watchHead(): Promise<void> {
  const bus = connectBus({ servers: [nats], name: 'bench-watcher', signal, log: silentLog });
  await bus.whenConnected();
  const mirror = openState(bus).watch();
  await mirror.caughtUp;
  mirror.onChange((batch) => {
    for (const { key, after } of batch.changes) {
      const head = key === stateKey.intentHead() ? readIntentHead(after?.value) : null;
      if (head !== null) noted.heads.push({ revision: head.revision, atNs: String(process.hrtime.bigint()) });
    }
  });
}

void watchControl();
watchHealth().catch((error: unknown) => console.error('bfd:', error));
watchHead().catch((error: unknown) => console.error('nats:', error));
await serveAgent<WatcherRequest, WatcherReply>(async (request) => {
  if (request.op === 'admin') {
    using connection = connectClient(BfdClient, socket);
    const { client } = connection;
    await callUnary(
      client.setAdminDown.bind(client),
      { id: request.node, adminDown: request.adminDown },
      { deadlineMs: 2_000 },
    );
    return { flips: [], health: [], heads: [] };
  }
  const taken = noted;
  noted = { flips: [], health: [], heads: [] };
  return taken;
});
process.exit();
