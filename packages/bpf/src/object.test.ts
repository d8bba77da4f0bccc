// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fault } from '@detour/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { closeFd, type OpenOptions, openObject, openPinnedMap, progTestRun } from './index.js';
import { compileTestObjects } from './testdata.js';

const objects = compileTestObjects('basic', 'refused', 'reshaped');
afterAll(() => objects[Symbol.dispose]());

const FRAME = new Uint8Array(64);

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function faultOf(path: string, options?: OpenOptions): Fault {
  try {
    openObject(path, options).close();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error(`${path} was loaded`);
}

describe('openObject', () => {
  it('finds maps and programs by name, and names what there is when asked for another', () => {
    using object = openObject(objects.object('basic'));
    expect([...object.programs.keys()].sort()).toEqual(['note', 'report', 'swap']);
    expect(object.map('table')).toMatchObject({ keySize: 4, valueSize: 8, maxEntries: 64, perCpu: false });
    expect(() => object.map('tabel')).toThrow(/no map tabel; it has .*table/);
    expect(() => object.program('nope')).toThrow(/no program nope; it has note/);
  });

  it('sizes maps as asked', () => {
    using object = openObject(objects.object('basic'), { maxEntries: { table: 1000 } });
    expect(object.map('table').maxEntries).toBe(1000);
    expect(faultOf(objects.object('basic'), { maxEntries: { tabel: 5 } })).toMatchObject({
      code: 'not_found',
    });
    expect(faultOf(objects.object('basic'), { maxEntries: { table: 0 } })).toMatchObject({ code: 'invalid' });
  });

  it('sets constants of each width before loading', () => {
    using object = openObject(objects.object('basic'), {
      rodata: { verdict: 1, stamp: 0x1_0000_0000_00n, label: Uint8Array.of(7, 0, 0, 0) },
    });
    expect(progTestRun(object.program('note'), { data: FRAME }).retval).toBe(1);
    const mark = object.map('shared').lookup(u32(1));
    expect(mark && new DataView(mark.buffer).getBigUint64(0, true)).toBe(0x1_0000_0000_07n);
    expect(faultOf(objects.object('basic'), { rodata: { verdit: 1 } }).detail).toMatch(
      /no constant verdit; it has .*verdict/,
    );
    expect(faultOf(objects.object('basic'), { rodata: { verdict: 2 ** 32 } })).toMatchObject({
      code: 'invalid',
    });
  });

  it('loads only the programs that were asked for', () => {
    using object = openObject(objects.object('basic'), { programs: ['swap'] });
    expect([...object.programs.keys()]).toEqual(['swap']);
    expect(faultOf(objects.object('basic'), { programs: ['swop'] })).toMatchObject({ code: 'not_found' });
  });

  it("explains the verifier's refusal: file, program, last lines, remedy", () => {
    const fault = faultOf(objects.object('refused'));
    expect(fault.code).toBe('invalid');
    expect(fault.detail).toContain('refused.bpf.o');
    expect(fault.detail).toContain('reads_past_the_end');
    expect(fault.detail).toMatch(/invalid access to packet/);
    expect(fault.detail).toMatch(/correct the program/);
  });

  it('refuses a file that is not there, and one that is no BPF object', () => {
    expect(faultOf('/nonexistent/x.o')).toMatchObject({ code: 'not_found' });
    const directory = mkdtempSync(join(tmpdir(), 'detour-bpf-'));
    try {
      const file = join(directory, 'text.o');
      writeFileSync(file, 'not an ELF file');
      expect(faultOf(file)).toMatchObject({ code: 'invalid' });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('pinned maps', () => {
  const root = `/run/detour-bpf-test-${process.pid}`;
  beforeAll(() => {
    mkdirSync(root, { recursive: true });
    execFileSync('mount', ['-t', 'bpf', 'bpf', root]);
  });
  afterAll(() => {
    execFileSync('umount', [root]);
    rmSync(root, { recursive: true });
  });

  it('keep their content from one load to the next, beyond the closing of the object', () => {
    const pinDir = join(root, 'keep');
    const value = new Uint8Array(8).fill(9);
    {
      using first = openObject(objects.object('basic'), { pinDir });
      first.map('table').update(u32(1), value);
    }
    using second = openObject(objects.object('basic'), { pinDir });
    expect(second.map('table').lookup(u32(1))).toEqual(value);
    const again = openPinnedMap(join(pinDir, 'table'));
    expect(again.lookup(u32(1))).toEqual(value);
    closeFd(again.fd);
    expect(readdirSync(pinDir).sort()).toEqual(['events', 'prefixes', 'runs', 'shared', 'table']);
    expect(() => openPinnedMap(join(pinDir, 'tabel'))).toThrow(/ENOENT/);
  });

  it('of another shape are refused with the path and the remedy', () => {
    const pinDir = join(root, 'shape');
    openObject(objects.object('basic'), { pinDir }).close();
    const fault = faultOf(objects.object('reshaped'), { pinDir });
    expect(fault.code).toBe('conflict');
    expect(fault.detail).toContain(join(pinDir, 'table'));
    expect(fault.detail).toMatch(/remove that pin/);
    expect(faultOf(objects.object('basic'), { pinDir: join(root, 'v1.2') }).detail).toMatch(/without dots/);
  });
});
