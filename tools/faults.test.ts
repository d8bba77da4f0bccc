// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FAULTS } from './faults.mjs';

const root = resolve(import.meta.dirname, '..');

describe('the named faults', () => {
  it('are at least 12, each with a name of its own', () => {
    expect(FAULTS.length).toBeGreaterThanOrEqual(12);
    expect(new Set(FAULTS.map(({ name }) => name)).size).toBe(FAULTS.length);
  });

  it.each(FAULTS)(
    '$name: its text is once in $file, and its test is there',
    ({ file, find, put, test, pattern }) => {
      expect(readFileSync(resolve(root, file), 'utf8').split(find).length - 1).toBe(1);
      expect(put).not.toBe(find);
      expect(existsSync(resolve(root, test))).toBe(true);
      if (pattern !== undefined)
        expect(readFileSync(resolve(root, test), 'utf8')).toMatch(new RegExp(pattern));
    },
  );
});
