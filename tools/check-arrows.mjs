// SPDX-License-Identifier: Apache-2.0
// Checks who imports whom (ARCHITECTURE.md section 5): declared dependencies, real imports, no deep imports, no reach over a package's edge.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const root = resolve(dirname(new URL(import.meta.url).pathname), '..');
const ADAPTERS = ['runtime', 'bus', 'affinity', 'rpc', 'telemetry', 'bpf'];
const PURE = ['intent', 'tables'];
const SERVICES = ['classifier', 'path-selector', 'stats-collector', 'tunnel-gw', 'bfd'];
const BASE = ['core', 'contracts'];
const TOOLS = [...BASE, 'wire', ...PURE, ...ADAPTERS, 'lab', 'testkit'];
const MAY = {
  core: [],
  contracts: ['core'],
  wire: ['core'],
  ...Object.fromEntries([...ADAPTERS, ...PURE].map((name) => [name, BASE])),
  ...Object.fromEntries([...SERVICES, 'cli'].map((name) => [name, [...BASE, 'wire', ...PURE, ...ADAPTERS]])),
  lab: TOOLS,
  testkit: TOOLS,
  bench: TOOLS,
  e2e: TOOLS,
  'datapath-tests': TOOLS,
};
/** Tests may also use what tests are made of. */
const IN_TESTS = ['testkit', 'lab', 'wire'];

const problems = [];
for (const dir of ['packages', 'services', 'tests']
  .flatMap((group) => children(join(root, group)))
  .concat([join(root, 'cli'), join(root, 'bench')])) {
  const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'));
  const name = manifest.name.replace('@detour/', '');
  const allowed = MAY[name];
  if (allowed === undefined) {
    problems.push(`${relative(root, dir)}: package ${name} has no arrows in tools/check-arrows.mjs`);
    continue;
  }
  for (const file of sources(join(dir, 'src'))) {
    const isTest = /\.test\.ts$|testdata|\/testing\//.test(file);
    for (const [, target] of readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) {
      const where = relative(root, file);
      if (target.startsWith('.')) {
        if (!resolve(dirname(file), target).startsWith(join(dir, 'src')) && !isTest)
          problems.push(`${where}: ${target} leaves its package`);
      } else if (target.startsWith('@detour/')) {
        const [, other, ...deep] = target.split('/');
        if (deep.length > 0) problems.push(`${where}: deep import ${target}`);
        if (!allowed.includes(other) && !(isTest && IN_TESTS.includes(other)))
          problems.push(`${where}: ${name} may not import ${other}`);
        if (
          manifest.dependencies?.[target] === undefined &&
          manifest.devDependencies?.[target] === undefined
        ) {
          problems.push(`${where}: ${target} is not in ${name}'s package.json`);
        }
      }
    }
  }
}
if (problems.length > 0) {
  process.stderr.write(`${problems.join('\n')}\n${problems.length} arrows point the wrong way\n`);
  process.exitCode = 1;
}

function children(dir) {
  return readdirSync(dir)
    .map((name) => join(dir, name))
    .filter((path) => statSync(path).isDirectory());
}
function sources(dir) {
  return readdirSync(dir, { recursive: true })
    .map((name) => join(dir, String(name)))
    .filter((path) => path.endsWith('.ts') && !path.includes('/gen/'));
}
