// SPDX-License-Identifier: Apache-2.0
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import { waitReadable } from './wait-readable.js';

const libc = koffi.load('libc.so.6');
const eventfd = libc.func('int eventfd(unsigned int value, int flags)');
const write = libc.func('long write(int fd, const void *data, size_t length)');
const read = libc.func('long read(int fd, void *data, size_t length)');
const EFD_NONBLOCK = 0o4000;
const ONE = new Uint8Array(BigUint64Array.of(1n).buffer);

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const gc: unknown = runInNewContext('gc');
  if (typeof gc !== 'function') throw new Error('no gc');
  gc();
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition() && Date.now() < deadline) await new Promise((resolve) => setImmediate(resolve));
  expect(condition()).toBe(true);
}

describe('waitReadable', () => {
  it('keeps calling when nobody keeps what it returned, and garbage was collected', async () => {
    const fd: unknown = eventfd(0, EFD_NONBLOCK);
    if (typeof fd !== 'number' || fd < 0) throw new Error('no eventfd');
    let calls = 0;
    waitReadable(fd, () => {
      read(fd, new Uint8Array(8), 8);
      calls++;
    });
    for (let i = 0; i < 3; i++) {
      collectGarbage();
      await new Promise((resolve) => setImmediate(resolve));
    }
    write(fd, ONE, 8);
    await until(() => calls === 1);
  });

  it('calls no more once it was stopped, also from within the call', async () => {
    const fd: unknown = eventfd(1, EFD_NONBLOCK); // stays readable: nobody reads it
    if (typeof fd !== 'number' || fd < 0) throw new Error('no eventfd');
    let calls = 0;
    const stop = waitReadable(fd, () => {
      calls++;
      stop();
      stop();
    });
    await until(() => calls === 1);
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(calls).toBe(1);
  });
});
