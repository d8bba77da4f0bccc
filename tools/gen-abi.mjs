// SPDX-License-Identifier: Apache-2.0
// Makes packages/contracts/src/gen/abi.ts from datapath/include/abi.h, through the BTF that clang writes for datapath/abi_probe.c.
//
//   node tools/gen-abi.mjs            writes the file
//   node tools/gen-abi.mjs --check    fails if the committed file is not what would be written
//   node tools/gen-abi.mjs --out F    writes to F
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readLayout } from './gen-abi-layout.mjs';
import { renderAbi } from './gen-abi-render.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const header = join(root, 'datapath/include/abi.h');
const committed = join(root, 'packages/contracts/src/gen/abi.ts');

/** BTF of the probe object, as bpftool prints it. */
function dumpBtf() {
  const directory = mkdtempSync(join(tmpdir(), 'detour-abi-'));
  try {
    const object = join(directory, 'abi_probe.o');
    const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
    execFileSync('clang', [
      ...['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Werror'],
      ...['-I', join(root, 'datapath/include'), '-I', `/usr/include/${machine}-linux-gnu`],
      ...['-c', join(root, 'datapath/abi_probe.c'), '-o', object],
    ]);
    const dump = execFileSync('bpftool', ['btf', 'dump', '-j', 'file', object], { maxBuffer: 64 << 20 });
    return JSON.parse(dump.toString('utf8')).types;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Types that abi.h defines and the probe does not name: clang dropped them. */
function missingFromProbe(layout) {
  const known = new Set([...layout.structs, ...layout.enums].map((type) => type.name));
  const defined = readFileSync(header, 'utf8').matchAll(/^(?:struct|enum)\s+(\w+)\s*\{/gm);
  return [...defined].map((match) => match[1]).filter((name) => !known.has(name));
}

const { values: flags } = parseArgs({ options: { check: { type: 'boolean' }, out: { type: 'string' } } });
const layout = readLayout(dumpBtf());
const missing = missingFromProbe(layout);
if (missing.length > 0) {
  throw new Error(
    `abi.h defines ${missing.join(', ')}, which datapath/abi_probe.c does not name; add them there`,
  );
}
const text = renderAbi(layout);
if (flags.check) {
  if (readFileSync(committed, 'utf8') !== text) {
    throw new Error(
      'packages/contracts/src/gen/abi.ts is not what abi.h makes; run node tools/gen-abi.mjs and commit it',
    );
  }
} else {
  writeFileSync(flags.out ?? committed, text);
}
