// SPDX-License-Identifier: Apache-2.0
/** Compiles the lab's XDP program that passes everything, once per change of its source. */
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { run } from './run.js';

const source = fileURLToPath(new URL('../bpf/xdp-pass.bpf.c', import.meta.url));
const buildDir = fileURLToPath(new URL('../build', import.meta.url));

/**
 * @returns the path of the compiled object.
 * @throws Fault with the compiler's message.
 */
export async function buildXdpPass(): Promise<string> {
  const object = `${buildDir}/xdp-pass.bpf.o`;
  const built = statSync(object, { throwIfNoEntry: false });
  if (built && built.mtimeMs >= statSync(source).mtimeMs) return object;
  mkdirSync(buildDir, { recursive: true });
  const mine = `${object}.${process.pid}`; // renamed at the end: other labs may be building it too
  const include = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  await run([
    'clang',
    '-O2',
    '-g',
    '-target',
    'bpf',
    `-I${include}`,
    '-Wall',
    '-Werror',
    '-c',
    source,
    '-o',
    mine,
  ]);
  renameSync(mine, object);
  return object;
}
