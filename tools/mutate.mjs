// SPDX-License-Identifier: Apache-2.0
// Breaks the code in named ways, each in a copy of the tree, and expects a named test to notice. A fault that no test notices fails the run.
// usage: node tools/mutate.mjs [--only NAME]
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { FAULTS } from './faults.mjs';

const root = resolve(dirname(new URL(import.meta.url).pathname), '..');
const tree = join(root, 'build/mutated');
const only = process.argv[2] === '--only' ? process.argv[3] : undefined;
const chosen = FAULTS.filter((fault) => only === undefined || fault.name.includes(only));
if (chosen.length === 0)
  throw new Error(`no fault is called ${only}: there are ${FAULTS.map((fault) => fault.name).join(', ')}`);

makeTree();
const unnoticed = [];
for (const [i, fault] of chosen.entries()) {
  process.stdout.write(`[${i + 1}/${chosen.length}] ${fault.name}: ${fault.what} … `);
  const path = join(tree, fault.file);
  const before = readFileSync(path, 'utf8');
  if (before.split(fault.find).length !== 2)
    throw new Error(
      `${fault.name}: the text to change is not once in ${fault.file}; bring tools/faults.mjs up to date`,
    );
  replace(
    path,
    before.replace(fault.find, () => fault.put),
  );
  const built = build();
  const noticed = built === null ? runTest(fault) : { failed: true, how: 'it does not build' };
  replace(path, before);
  if (built !== null) {
    unnoticed.push(fault.name);
    process.stdout.write(`IT DOES NOT BUILD: a fault must be one that only a test can notice\n${built}\n`);
  } else if (noticed.failed) process.stdout.write(`noticed by ${noticed.how}\n`);
  else {
    unnoticed.push(fault.name);
    process.stdout.write(`NOT NOTICED by ${fault.test}\n`);
  }
}
build();
rmSync(tree, { recursive: true, force: true });
process.stdout.write(`${chosen.length - unnoticed.length} of ${chosen.length} faults noticed\n`);
if (unnoticed.length > 0) process.exitCode = 1;

/** A copy of the tracked files with the built ones; packages of others are linked. */
function makeTree() {
  rmSync(tree, { recursive: true, force: true });
  mkdirSync(tree, { recursive: true });
  const files = execFileSync(
    'git',
    ['-C', root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    { encoding: 'utf8', maxBuffer: 1 << 26 },
  )
    .split('\0')
    .filter(Boolean);
  const dirs = new Set();
  for (const file of files) {
    if (!existsSync(join(root, file))) continue;
    cpSync(join(root, file), join(tree, file), { recursive: true });
    if (file.endsWith('/package.json')) dirs.add(dirname(file));
  }
  for (const dir of dirs) {
    for (const made of ['node_modules', 'dist']) {
      if (existsSync(join(root, dir, made)))
        cpSync(join(root, dir, made), join(tree, dir, made), { recursive: true, verbatimSymlinks: true });
    }
  }
  cpSync(join(root, 'datapath/build'), join(tree, 'datapath/build'), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
  if (existsSync(join(root, '.tools'))) symlinkSync(join(root, '.tools'), join(tree, '.tools'));
}

function replace(path, text) {
  unlinkSync(path);
  writeFileSync(path, text);
}

/** null when it builds, else what the compilers said. */
function build() {
  for (const [command, ...args] of [
    ['make', '-s', '-C', 'datapath'],
    ['pnpm', 'exec', 'tsc', '-b'],
  ]) {
    const run = spawnSync(command, args, { cwd: tree, encoding: 'utf8' });
    if (run.status !== 0) return `${run.stdout}${run.stderr}`.slice(-2000);
  }
  return null;
}

function runTest(fault) {
  const args = [
    'exec',
    'vitest',
    'run',
    fault.test,
    '--reporter=json',
    '--outputFile.json=build/mutation.json',
    ...(fault.pattern === undefined ? [] : ['--testNamePattern', fault.pattern]),
  ];
  mkdirSync(join(tree, 'build'), { recursive: true });
  spawnSync('pnpm', args, { cwd: tree, encoding: 'utf8', timeout: 600_000, maxBuffer: 1 << 28 });
  const report = JSON.parse(readFileSync(join(tree, 'build/mutation.json'), 'utf8'));
  const failed = report.testResults
    .flatMap((file) => file.assertionResults)
    .filter((test) => test.status === 'failed');
  return { failed: failed.length > 0, how: failed[0]?.title ?? '' };
}
