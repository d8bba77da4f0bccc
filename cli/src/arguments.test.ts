// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EXIT } from './exit-codes.js';
import { EXIT_MEANINGS } from './program.js';
import { RESOURCES } from './resources.js';
import { runCli } from './run-cli.js';

/** Port 1 of loopback: nobody listens there. */
const NOWHERE = 'nats://127.0.0.1:1';

async function run(args: readonly string[], options: { input?: string; nats?: string } = {}) {
  let out = '';
  let err = '';
  const code = await runCli(args, {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    env: { DETOUR_NATS: options.nats ?? NOWHERE },
    signal: new AbortController().signal,
    readInput: async () => options.input ?? '',
  });
  return { code, out, err };
}

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'detour-cli-'));
});
afterAll(async () => {
  await rm(dir, { recursive: true });
});

describe('wrong arguments end with 2 and say what would be right', () => {
  it.each([
    ['an unknown command', ['sttus'], 'Did you mean status?'],
    ['an unknown flag', ['status', '--verbos'], "unknown option '--verbos'"],
    ['no file', ['check'], '--file'],
    [
      'a file that is not there',
      ['check', '-f', '/nonexistent/x.yaml'],
      '/nonexistent/x.yaml does not exist',
    ],
    ['a directory', ['check', '-f', '/tmp'], 'is a directory'],
    ['a wrong format', ['status', '-o', 'xml'], 'table, json, yaml'],
    ['a wrong timeout', ['apply', '-f', 'x', '--wait', '--timeout', '5'], '500ms, 30s or 2m'],
    ['a wrong revision', ['rollback', 'one'], 'whole number from 1'],
    ['an unknown resource', ['get', 'node'], 'did you mean nodes?'],
    ['a filter that the resource has not', ['get', 'alarms', '--node', 'fw1'], 'get alarms takes no --node'],
    ['a trace without a port', ['trace', '--src', '10.0.0.1', '--dst', '10.0.0.2'], '--port'],
    [
      'a trace from no address',
      ['trace', '--port', 'in', '--src', '10.0.0', '--dst', '10.0.0.2'],
      '--src 10.0.0 is no IP address',
    ],
    [
      'a trace between families',
      ['trace', '--port', 'in', '--src', '::1', '--dst', '10.0.0.2'],
      'two address families',
    ],
    [
      'a trace of no protocol',
      ['trace', '--port', 'in', '--src', '10.0.0.1', '--dst', '10.0.0.2', '--proto', 'tpc'],
      'did you mean tcp?',
    ],
    ['a port number out of bounds', ['trace', '--dport', '65536'], '0 to 65535'],
    ['a wrong session state', ['session', 'fw1', 'down'], 'admin-down or up'],
  ])('%s', async (_title, args, says) => {
    const { code, err, out } = await run(args);
    expect(err).toContain(says);
    expect({ code, out }).toEqual({ code: EXIT.usage, out: '' });
  });

  it('a wrong DETOUR_NATS', async () => {
    const { code, err } = await run(['status'], { nats: 'http://x' });
    expect({ code, err }).toEqual({
      code: EXIT.usage,
      err: expect.stringContaining('DETOUR_NATS="http://x"'),
    });
  });
});

describe('help', () => {
  it('ends with 0 and names every exit code', async () => {
    const { code, out } = await run(['--help']);
    expect(code).toBe(EXIT.ok);
    for (const [number, meaning] of EXIT_MEANINGS) expect(out).toContain(`${number}  ${meaning}`);
  });

  it('names every resource', async () => {
    const { out } = await run(['get', '--help']);
    for (const name of Object.keys(RESOURCES)) expect(out).toContain(`  ${name} `);
  });

  it('says of every exit code what it means, as the README does', () => {
    expect(EXIT_MEANINGS.map(([number]) => number).sort()).toEqual(Object.values(EXIT).sort());
    const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
    const cells = readme.split('\n').map((line) => line.split('|').map((cell) => cell.trim()));
    for (const [number, meaning] of EXIT_MEANINGS)
      expect(cells).toContainEqual(['', String(number), meaning, '']);
    for (const name of Object.keys(RESOURCES)) expect(readme).toContain(`\`${name}\``);
  });
});

describe('check', () => {
  it('needs no cluster', async () => {
    const { code, out } = await run(['check', '-f', '-'], {
      input: 'apiVersion: detour/v1\nvrfs: [{ name: red, table: 7 }]\n',
    });
    expect({ code, out }).toEqual({ code: EXIT.ok, out: '- is correct: 1 VRFs\n' });
  });

  it('ends with 3 and every problem as file:line:column', async () => {
    const file = join(dir, 'bad.yaml');
    await writeFile(file, 'apiVersion: detour/v1\nvrfs: [{ name: red, tabel: 7 }]\nrules: 5\n');
    const { code, err, out } = await run(['check', '-f', file]);
    expect({ code, out }).toEqual({ code: EXIT.document, out: '' });
    expect(err.split('\n')).toEqual([
      `${file}:2:8: vrfs[0].table is missing; add table`,
      `${file}:2:21: vrfs[0].tabel "tabel" is no key of this document; did you mean "table"?`,
      `${file}:3:8: rules: 5 is of the wrong type; write a list of rows, each beginning with "- "`,
      `${file}: 3 problems; nothing was changed`,
      '',
    ]);
  });

  it('gives programs the same as JSON', async () => {
    const { code, out } = await run(['check', '-f', '-', '-o', 'json'], { input: 'apiVersion: detour/v2\n' });
    expect(code).toBe(EXIT.document);
    expect(JSON.parse(out)).toMatchObject({
      ok: false,
      problems: [{ code: 'wrong_shape', line: 1, column: 13, path: 'apiVersion' }],
    });
  });
});

it('an unreachable NATS ends with 5 and says what to do', async () => {
  const { code, err } = await run(['status']);
  expect({ code, err }).toEqual({
    code: EXIT.unavailable,
    err: `detour: NATS at ${NOWHERE} cannot be reached: start it, or name another in DETOUR_NATS\n`,
  });
});
