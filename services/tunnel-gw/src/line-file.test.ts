// SPDX-License-Identifier: Apache-2.0
// On real files: a file system that fills up is a real one, of a few pages.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LineFile } from './line-file.js';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'detour-lines-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

function openFile(name: string, maxBytes?: number) {
  const troubles: (string | null)[] = [];
  const path = join(dir, name);
  const onTrouble = (why: string | null) => void troubles.push(why);
  const file = new LineFile({ path, onTrouble, ...(maxBytes === undefined ? {} : { maxBytes }) });
  return { file, path, troubles, read: (at = path) => readFileSync(at, 'utf8') };
}

describe('LineFile', () => {
  it('appends whole lines in their order, for its owner and group alone', async () => {
    const { file, read, path } = openFile('order');
    for (let i = 0; i < 1_000; i++) expect(file.write(`${i}`)).toBe(true);
    await file.settled();
    file.write('last');
    await file[Symbol.asyncDispose]();
    expect(read()).toBe(`${Array.from({ length: 1_000 }, (_, i) => `${i}\n`).join('')}last\n`);
    expect(statSync(path).mode & 0o777).toBe(0o640 & ~process.umask());
  });

  it('goes on in a new file of the old name once it was renamed, or removed', async () => {
    const { file, path, read } = openFile('rotated');
    file.write('one');
    await file.settled();
    renameSync(path, `${path}.1`);
    file.write('two');
    await file.settled();
    rmSync(path);
    file.write('three');
    await file[Symbol.asyncDispose]();
    expect([read(`${path}.1`), read()]).toEqual(['one\n', 'three\n']);
  });

  it('takes no more than may wait, and says so', async () => {
    const { file, read } = openFile('bounded', 10);
    expect([file.write('12345'), file.write('123'), file.write('12')]).toEqual([true, true, false]);
    await file.settled();
    expect(file.write('12')).toBe(true);
    await file[Symbol.asyncDispose]();
    expect(read()).toBe('12345\n123\n12\n');
    expect(file.lost).toBe(0);
  });

  it('counts what cannot be written, says why, and goes on when it can', async () => {
    const { file, troubles, path, read } = openFile('absent/log');
    file.write('one');
    file.write('two');
    await file.settled();
    expect(file.lost).toBe(2);
    expect(troubles).toEqual([expect.stringContaining('ENOENT')]);
    mkdirSync(join(path, '..'));
    file.write('three');
    await file[Symbol.asyncDispose]();
    expect([read(), troubles.at(-1), file.lost]).toEqual(['three\n', null, 2]);
  });

  it('leaves no line in the middle of another when the disk was full', async () => {
    const mount = join(dir, 'full');
    mkdirSync(mount);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8k', 'tmpfs', mount]);
    try {
      const { file, troubles, read, path } = openFile('full/log');
      const filler = join(mount, 'filler');
      execFileSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=4096', 'count=1', 'status=none']);
      file.write('x'.repeat(6_000));
      await file.settled();
      expect([troubles, file.lost]).toEqual([[expect.stringContaining('ENOSPC')], 1]);
      rmSync(filler);
      file.write('whole');
      await file[Symbol.asyncDispose]();
      expect(statSync(path).size).toBeGreaterThan(1_000);
      expect(read().split('\n').slice(1)).toEqual(['whole', '']);
      expect(troubles.at(-1)).toBeNull();
    } finally {
      execFileSync('umount', [mount]);
    }
  });
});
