// SPDX-License-Identifier: Apache-2.0
/**
 * A datapath of another ABI, as an older release would have it: the same program with the records of flows and their counters laid out otherwise,
 * and tunnel-gw's knowledge of that. It is made from the sources as they are; services run it by environment variables and a file.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** What is moved: text of a header, which stands there once, and what stands there instead. */
const CHANGES: readonly (readonly [file: string, find: string, put: string])[] = [
  ['abi.h', 'struct flow {\n\t__u64 word;\n', 'struct flow {\n\t__u64 pad;\n'],
  [
    'abi.h',
    '\t__u32 rules_gen;\t/* control.rules_gen',
    '\t__u64 word;\n\t__u32 rules_gen;\t/* control.rules_gen',
  ],
  ['abi.h', 'sizeof(struct flow) == 88', 'sizeof(struct flow) == 96'],
  ['abi-counters.h', 'struct flow_counters {\n', 'struct flow_counters {\n\t__u64 last_ns;\n'],
  ['abi-counters.h', '\t__u64 last_ns;\n\t__u32 seen;', '\t__u32 seen;'],
];

export interface OtherAbi {
  /** The compiled program. */
  readonly object: string;
  /** The layouts, as a module in place of the one that tunnel-gw is built with. */
  readonly module: string;
  /** Environment of a tunnel-gw: it is of the other ABI whenever it starts, until `retire`. */
  readonly env: Readonly<Record<string, string>>;
  /** From now on a tunnel-gw that starts with this environment is of the ABI of the sources. */
  retire(): void;
}

/** Makes it in a directory, which may be there. */
export function makeOtherAbi(directory: string): OtherAbi {
  const tree = join(directory, 'other-abi');
  mkdirSync(tree, { recursive: true });
  for (const part of ['datapath', 'tools']) cpSync(join(root, part), join(tree, part), { recursive: true });
  rmSync(join(tree, 'datapath/build'), { recursive: true, force: true });
  for (const [file, find, put] of CHANGES) {
    const path = join(tree, 'datapath/include', file);
    const text = readFileSync(path, 'utf8');
    if (text.split(find).length !== 2)
      throw new Error(`${JSON.stringify(find)} is not once in ${file}: bring other-abi.ts up to date`);
    writeFileSync(path, text.replace(find, put));
  }
  execFileSync('make', ['-s', '-C', join(tree, 'datapath')]);
  execFileSync(process.execPath, [join(tree, 'tools/gen-abi.mjs'), '--out', join(tree, 'abi.ts')]);
  const module = join(tree, 'abi.mjs');
  const tsc = ['--noCheck', '--module', 'esnext', '--target', 'es2022', '--moduleResolution', 'bundler'];
  execFileSync(join(root, 'node_modules/.bin/tsc'), [...tsc, join(tree, 'abi.ts')]);
  const text = readFileSync(join(tree, 'abi.js'), 'utf8');
  const core = pathToFileURL(join(root, 'packages/core/dist/index.js')).href;
  writeFileSync(module, text.replace("'@detour/core'", JSON.stringify(core)));

  const marker = join(tree, 'in-use');
  const object = join(tree, 'edge.bpf.o');
  const own = join(tree, 'datapath/build/edge.bpf.o');
  writeFileSync(marker, '');
  symlinkSync(own, object);
  const hook = join(tree, 'hook.mjs');
  writeFileSync(hook, hookText({ marker, module }));
  return {
    ...{ object: own, module },
    env: { DETOUR_DATAPATH: object, NODE_OPTIONS: `--import ${pathToFileURL(hook).href}` },
    retire() {
      rmSync(marker);
      rmSync(object);
      symlinkSync(join(root, 'datapath/build/edge.bpf.o'), object);
    },
  };
}

/** Has a process load the other module in place of packages/contracts' own, while the marker is there. */
function hookText({ marker, module }: { readonly marker: string; readonly module: string }): string {
  const resolve = `export async function resolve(specifier, context, next) {
    const found = await next(specifier, context);
    return found.url.endsWith('/contracts/dist/gen/abi.js') ? { ...found, url: ${JSON.stringify(pathToFileURL(module).href)} } : found;
  }`;
  return `import { existsSync } from 'node:fs';
import { register } from 'node:module';
if (existsSync(${JSON.stringify(marker)})) register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(resolve)}`)});
`;
}
