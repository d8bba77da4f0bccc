// SPDX-License-Identifier: Apache-2.0
// Compiles the benchmarks' own BPF programs, once per change of their source, and says where the datapath's are.
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { run } from './run.js';

const SOURCES = fileURLToPath(new URL('../bpf/', import.meta.url));
const BUILD = fileURLToPath(new URL('../build/', import.meta.url));
const DATAPATH = fileURLToPath(new URL('../../datapath/build/', import.meta.url));

export type BenchObject = 'arms' | 'generator' | 'sink' | 'forwarder' | 'reflector' | 'server' | 'tries';

/** The gateway's program, as `make build` left it. */
export const EDGE_OBJECT = `${DATAPATH}edge.bpf.o`;

/** Its rule look-up alone. */
export const PROBE_OBJECT = `${DATAPATH}rules_probe.bpf.o`;

/**
 * @returns the path of the compiled object.
 * @throws Fault with the compiler's message.
 */
export async function buildBenchObject(name: BenchObject): Promise<string> {
  const source = `${SOURCES}${name}.bpf.c`;
  const object = `${BUILD}${name}.bpf.o`;
  const built = statSync(object, { throwIfNoEntry: false });
  if (built && built.mtimeMs >= statSync(source).mtimeMs) return object;
  mkdirSync(BUILD, { recursive: true });
  const include = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  const flags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Werror', `-I${include}`];
  const mine = `${object}.${process.pid}`;
  await run(['clang', ...flags, '-c', source, '-o', mine]);
  renameSync(mine, object);
  return object;
}
