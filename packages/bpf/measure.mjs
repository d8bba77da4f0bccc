// SPDX-License-Identifier: Apache-2.0
// Prints the figures of README.md: calls and events per second of one busy thread. Build first (pnpm exec tsc -b).
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deleteBatch, openObject, openRing, progTestRun, readBatches, updateBatch } from './dist/index.js';

const ENTRIES = 200_000;
const directory = mkdtempSync(join(tmpdir(), 'detour-bpf-measure-'));
const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
const source = fileURLToPath(new URL('testdata/basic.bpf.c', import.meta.url));
const path = join(directory, 'basic.bpf.o');
execFileSync('clang', [
  ...['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-I', `/usr/include/${machine}-linux-gnu`],
  ...['-c', source, '-o', path],
]);
const object = openObject(path, { maxEntries: { table: 2 * ENTRIES, events: 1 << 24 } });
const table = object.map('table');
const keys = new Uint8Array(Uint32Array.from({ length: ENTRIES }, (_, i) => i).buffer);
const values = new Uint8Array(ENTRIES * 8);

/** Runs `work` three times and prints the best rate. */
async function rate(name, count, work, before = () => {}) {
  let best = 0;
  for (let i = 0; i < 3; i++) {
    await before();
    const start = process.hrtime.bigint();
    await work();
    best = Math.max(best, (count * 1e9) / Number(process.hrtime.bigint() - start));
  }
  console.log(`${name.padEnd(44)} ${(best / 1e6).toFixed(2)} M/s`);
}

const key = new Uint8Array(4);
const value = new Uint8Array(8);
const keyView = new DataView(key.buffer);
function each(operation) {
  return () => {
    for (let i = 0; i < ENTRIES; i++) {
      keyView.setUint32(0, i, true);
      operation();
    }
  };
}

await rate(
  'map update, one call each',
  ENTRIES,
  each(() => table.update(key, value)),
);
await rate(
  'map lookupInto, one call each',
  ENTRIES,
  each(() => table.lookupInto(key, value)),
);
await rate('updateBatch, chunks of 1,024', ENTRIES, () => updateBatch(table, keys, values));
await rate('readBatches, chunks of 1,024', ENTRIES, async () => {
  for await (const batch of readBatches(table)) if (batch.count === 0) throw new Error('empty batch');
});
await rate(
  'deleteBatch, chunks of 1,024',
  ENTRIES,
  () => deleteBatch(table, keys),
  () => updateBatch(table, keys, values),
);

const events = object.map('events');
const report = object.program('report');
const frame = new Uint8Array(64);
frame[0] = 250;
let sum = 0;
const ring = openRing(events, (record) => {
  sum += record[0] ?? 0;
});
const RUNS = 1600;
await rate(
  'ring records of 32 bytes, reader alone',
  RUNS * 250,
  () => ring.read(Number.POSITIVE_INFINITY),
  () => progTestRun(report, { data: frame, repeat: RUNS }),
);
ring.close();
await rate('progTestRun of an empty verdict, repeat 1', 20_000, () => {
  for (let i = 0; i < 20_000; i++) progTestRun(object.program('note'), { data: frame });
});
object.close();
rmSync(directory, { recursive: true });
if (sum === 0) throw new Error('no ring records');
