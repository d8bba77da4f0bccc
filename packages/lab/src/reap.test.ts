// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLab } from './lab.js';
import { pinRoot, reapDeadLabs } from './reap.js';
import { isAlive, listRecords, readStart } from './state.js';

/** A process of its own that makes a lab, starts something in it, and waits to be killed. */
const owner = `
  const { createLab } = await import(process.argv[1]);
  const lab = await createLab({ namespaces: { a: {}, b: {} }, links: [{ a: { ns: 'a', device: 'e' }, b: { ns: 'b', device: 'e' } }] },
    { name: process.argv[2], runtimeDir: process.argv[3] });
  const child = lab.spawn('a', ['sleep', '1000']);
  if (process.argv[4] === 'keep') lab.keep();
  console.log(child.pid);
  if (process.argv[4] !== 'keep') setInterval(() => {}, 1000);
`;

let runtimeDir: string;
const own = (name: string): string => `lab-${name}-${process.pid}`; // other runs of this test must not meet
const [deadName, livingName, againName, keptName] = ['dead', 'living', 'again', 'kept'].map(own) as [
  string,
  string,
  string,
  string,
];
const owners: ChildProcess[] = [];

beforeEach(() => {
  runtimeDir = mkdtempSync(join(tmpdir(), 'lab-reap-'));
});
afterEach(async () => {
  await Promise.all(owners.splice(0).map(killHard));
  await reapDeadLabs(runtimeDir);
  await reapDeadLabs(runtimeDir, { alsoKept: keptName });
  rmSync(runtimeDir, { recursive: true, force: true }); // it goes with its last lab
});

async function startOwner(name: string, how = 'wait'): Promise<{ owner: ChildProcess; childPid: number }> {
  const built = new URL('../dist/index.js', import.meta.url).href;
  const child = spawn(process.execPath, ['--input-type=module', '-e', owner, built, name, runtimeDir, how], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  owners.push(child);
  const childPid = await new Promise<number>((resolve, reject) => {
    child.stdout.once('data', (chunk: Buffer) => resolve(Number(chunk)));
    child.once('exit', (code) => reject(new Error(`the owner ended with ${code}`)));
  });
  return { owner: child, childPid };
}

async function killHard(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}

describe('reapDeadLabs', () => {
  it('removes namespaces, processes, pins and files of a killed owner, and nothing of a living one', async () => {
    const dead = await startOwner(deadName);
    const living = await startOwner(livingName);
    const pin = `${pinRoot}/${deadName}-edge1`;
    const livingPin = `${pinRoot}/${livingName}-edge1`;
    mkdirSync(pin, { recursive: true });
    mkdirSync(livingPin, { recursive: true });
    const sleeper = { pid: dead.childPid, start: readStart(dead.childPid) ?? 'ended' };
    expect(isAlive(sleeper)).toBe(true);
    await killHard(dead.owner);
    expect(isAlive(sleeper)).toBe(true);

    expect(await reapDeadLabs(runtimeDir)).toEqual([deadName]);

    expect(isAlive(sleeper)).toBe(false);
    expect(existsSync(`/run/netns/dt-${deadName}-a`)).toBe(false);
    expect(existsSync(join(runtimeDir, deadName))).toBe(false);
    expect(existsSync(pin)).toBe(false);
    expect(existsSync(livingPin)).toBe(true);
    expect(existsSync(`/run/netns/dt-${livingName}-a`)).toBe(true);
    expect(readStart(living.childPid)).toBeDefined();
    expect(listRecords(runtimeDir).map((record) => record.name)).toEqual([livingName]);
  });

  it('happens by itself when the next lab of that name is made', async () => {
    const { owner: first } = await startOwner(againName);
    await killHard(first);
    await using lab = await createLab({ namespaces: { a: {} }, links: [] }, { name: againName, runtimeDir });
    expect(existsSync(`/run/netns/${lab.netns('a')}`)).toBe(true);
    expect(existsSync(`/run/netns/dt-${againName}-b`)).toBe(false);
  });

  it('leaves a lab alone that was kept on purpose, until it is named', async () => {
    const { owner: kept, childPid } = await startOwner(keptName, 'keep');
    await expect.poll(() => kept.exitCode).toBe(0); // nothing of the lab holds its owner up
    expect(await reapDeadLabs(runtimeDir)).toEqual([]);
    expect(readStart(childPid)).toBeDefined();
    expect(await reapDeadLabs(runtimeDir, { alsoKept: keptName })).toEqual([keptName]);
    expect(readStart(childPid)).toBeUndefined();
  });
});
