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
const only = process.argv[2] === '--only' ? process.argv[3]?.split(',') : undefined;
const chosen = FAULTS.filter((fault) => only?.some((name) => fault.name.includes(name)) ?? true);
if (chosen.length === 0)
  throw new Error(`no fault is called ${only}: there are ${FAULTS.map((fault) => fault.name).join(', ')}`);
const beganMs = performance.now();
makeTree();
for (const fault of chosen) {
  const text = readFileSync(join(tree, fault.file), 'utf8');
  if (text.split(fault.find).length !== 2)
    throw new Error(
      `${fault.name}: the text to change is not once in ${fault.file}; bring tools/faults.mjs up to date`,
    );
}

const broken = build();
if (broken !== null) throw new Error(`the tree does not build as it is: ${broken}`);
const sound = new Map(); // test and pattern → what is wrong with it as it is, null when it passes
const unnoticed = [];
for (const [i, fault] of chosen.entries()) {
  process.stdout.write(`[${i + 1}/${chosen.length}] ${fault.name}: ${fault.what} … `);
  const key = `${fault.test} ${fault.pattern ?? ''}`;
  if (!sound.has(key)) sound.set(key, failureOf(fault)); // a test that fails anyway proves nothing
  const before = sound.get(key);
  if (before !== null) {
    unnoticed.push(fault.name);
    process.stdout.write(`${fault.test} fails without it: ${before}\n`);
    continue;
  }
  const path = join(tree, fault.file);
  const text = readFileSync(path, 'utf8');
  replace(
    path,
    text.replace(fault.find, () => fault.put),
  );
  const built = build();
  const failure = built === null ? failureOf(fault) : null;
  replace(path, text);
  if (built !== null)
    process.stdout.write(`IT DOES NOT BUILD: a fault must be one that only a test can notice\n${built}\n`);
  else if (failure === null) process.stdout.write(`NOT NOTICED by ${fault.test}\n`);
  else process.stdout.write(`noticed by ${failure}\n`);
  if (failure === null) unnoticed.push(fault.name);
  build();
}
rmSync(tree, { recursive: true, force: true });
const tookS = Math.round((performance.now() - beganMs) / 1000);
process.stdout.write(
  `${chosen.length - unnoticed.length} of ${chosen.length} faults noticed, ${tookS} s${unnoticed.length > 0 ? `; not: ${unnoticed.join(', ')}` : ''}\n`,
);
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

/** The title of a test that fails, or why its file does; null when all pass. @throws when the pattern names no test */
function failureOf(fault) {
  const output = join(tree, 'build/mutation.json');
  const pattern = fault.pattern === undefined ? [] : ['--testNamePattern', fault.pattern];
  const args = [
    'exec',
    'vitest',
    'run',
    fault.test,
    '--retry=0', // a fault that a second try would forgive is a fault
    '--reporter=json',
    `--outputFile.json=${output}`,
    ...pattern,
  ];
  mkdirSync(dirname(output), { recursive: true });
  rmSync(output, { force: true });
  const ran = spawnSync('pnpm', args, { cwd: tree, encoding: 'utf8', timeout: 600_000, maxBuffer: 1 << 28 });
  if (!existsSync(output))
    return `its run, which ended without a result: ${`${ran.stdout}${ran.stderr}`.slice(-500)}`;
  const { testResults } = JSON.parse(readFileSync(output, 'utf8'));
  const tests = testResults.flatMap((file) => file.assertionResults);
  const failed = tests.find((test) => test.status === 'failed');
  if (failed !== undefined) return `'${failed.title}'`;
  const file = testResults.find(({ status }) => status === 'failed');
  if (file !== undefined) return `${fault.test}: ${file.message.slice(0, 300)}`;
  if (!tests.some((test) => test.status === 'passed'))
    throw new Error(`${fault.name}: no test of ${fault.test} is called ${fault.pattern ?? 'anything'}`);
  return null;
}
