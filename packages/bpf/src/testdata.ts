// SPDX-License-Identifier: Apache-2.0
// Compiles this package's own small BPF programs for its tests.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import { describeErrno, lastErrno } from './errno.js';

const SOURCES = fileURLToPath(new URL('../testdata/', import.meta.url));

export interface TestObjects extends Disposable {
  /** Path of the object compiled from testdata/<name>.bpf.c. */
  object(name: string): string;
}

/** A temporary directory of compiled test programs; removed when disposed. */
export function compileTestObjects(...names: readonly string[]): TestObjects {
  const directory = mkdtempSync(join(tmpdir(), 'detour-bpf-'));
  for (const name of names) {
    const source = join(SOURCES, `${name}.bpf.c`);
    const include = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
    execFileSync('clang', [
      '-O2',
      '-g',
      '-target',
      'bpf',
      '-mcpu=v3',
      '-I',
      include,
      '-c',
      source,
      '-o',
      join(directory, `${name}.bpf.o`),
    ]);
  }
  return {
    object: (name) => join(directory, `${name}.bpf.o`),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

const CLONE_NEWNET = 0x4000_0000;

/** Puts this test process into a network namespace of its own, which ends with it; devices made there need no cleaning up. */
export function enterOwnNetwork(): void {
  const unshare = koffi.load('libc.so.6').func('int unshare(int flags)');
  if (unshare(CLONE_NEWNET) !== 0) throw new Error(`unshare: ${describeErrno(lastErrno())}`);
  runIp('link set lo up');
}

/** `ip` with space-separated arguments. */
export function runIp(args: string): void {
  execFileSync('ip', args.split(' '));
}

/** Waits until devices pass packets: the kernel activates a veth's queue some time after both sides are up. */
export async function whenUp(...devices: readonly string[]): Promise<void> {
  const deadline = Date.now() + 5000;
  for (const device of devices) {
    while (!/ state UP /.test(execFileSync('ip', ['link', 'show', device]).toString())) {
      if (Date.now() > deadline) throw new Error(`${device} is not up after 5 s`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
