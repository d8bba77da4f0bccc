// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { run } from './run.js';

const packageDir = fileURLToPath(new URL('..', import.meta.url));
const buildDir = `${packageDir}build`;

describe('README', () => {
  it('shows code that runs and prints what it says', async () => {
    const [, code] = /```ts\n([\s\S]+?)```/.exec(readFileSync(`${packageDir}README.md`, 'utf8')) ?? [];
    const own = (code ?? '').replace("name: 'readme'", `name: 'lab-readme-${process.pid}'`);
    mkdirSync(buildDir, { recursive: true });
    writeFileSync(`${buildDir}/readme.ts`, own);
    const options =
      '--target ES2022 --lib ES2022,ESNext.Disposable --module NodeNext --strict --skipLibCheck';
    const places = ['--rootDir', buildDir, '--outDir', buildDir, `${buildDir}/readme.ts`];
    const tsc = ['pnpm', 'exec', 'tsc', ...options.split(' '), ...places];
    await run(tsc, { cwd: packageDir });
    const { stdout } = await run([process.execPath, `${buildDir}/readme.js`], { cwd: packageDir });
    expect(stdout).toBe('true 0\n');
  });
});
