// SPDX-License-Identifier: Apache-2.0
// Every fenced block of the documents is of a known kind and does what it says: documents parse, commands run.
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfig } from '../../cli/src/node/config.js';
import { formatProblem, parseIntent } from '../../packages/intent/src/index.js';
import { type NatsServer, startNats } from '../../packages/testkit/src/index.js';
import { APPLIED, RUN_ELSEWHERE, RUN_WHOLE } from './commands.js';
import { allDocuments, checkedDocuments, codeIn, readDocument, root, trackedFiles } from './documents.js';

/** text: diagrams and output. The others are checked below. */
const KINDS = ['text', 'sh', 'yaml', 'bird', 'frr', 'env', 'node'];
const documents = checkedDocuments();
const blocks = documents.flatMap((document) =>
  document.blocks.map((block) => ({ ...block, path: document.path, at: `${document.path}:${block.line}` })),
);
const commands = blocks
  .filter(({ kind, path }) => kind === 'sh' && RUN_WHOLE[path] === undefined)
  .flatMap(({ text, at }) =>
    text.split('\n').flatMap((line) => {
      const command = line.replace(/\s+# .*$|^# .*$/, '').trim();
      return command === '' ? [] : [{ command, at }];
    }),
  );
const directory = mkdtempSync(join(tmpdir(), 'detour-docs-'));
afterAll(() => rmSync(directory, { recursive: true }));
const isCli = (command: string): boolean => command.startsWith('detour ');

describe('blocks', () => {
  it('are of a known kind', () => {
    const unknown = blocks.filter(({ kind }) => !KINDS.includes(kind)).map(({ at, kind }) => `${at} ${kind}`);
    expect(unknown).toEqual([]);
    expect(blocks.length).toBeGreaterThan(10);
  });

  it('of text hold no commands', () => {
    const held = blocks.filter(({ kind, text }) => kind === 'text' && /^\s*[$#] \w/m.test(text));
    expect(held.map(({ at }) => at)).toEqual([]);
  });

  const yaml = allDocuments().flatMap(({ path, blocks: all }) =>
    all.filter(({ kind }) => kind === 'yaml').map((block) => ({ ...block, at: `${path}:${block.line}` })),
  );
  it.each(yaml)('in YAML are intents that are accepted: $at', ({ text, at }) => {
    const parsed = parseIntent(text, at, 'whole');
    expect(parsed.ok ? [] : parsed.problems.map(formatProblem)).toEqual([]);
  });

  const attachPages = documents.map(({ path }) => path).filter((path) => path.startsWith('docs/attach-'));
  it('in YAML on a page of an attach kind are applied by a test, and the page has a picture of the packet at each hop', () => {
    for (const path of attachPages) {
      const test = APPLIED[path];
      expect(test === undefined ? path : readFileSync(root + test, 'utf8')).toContain(
        path.replace('docs/', `blocksOf('`),
      );
      const pictures = blocks.filter(
        (one) => one.path === path && one.kind === 'text' && /TTL/.test(one.text),
      );
      expect([path, pictures.length > 0]).toEqual([path, true]);
    }
    expect(attachPages.length).toBeGreaterThanOrEqual(3);
  });

  const nodes = blocks.filter(({ kind }) => kind === 'node');
  it.each(nodes)('for `detour node attach` are accepted by it: $at', ({ text, at }) => {
    expect(() => readConfig(text, at)).not.toThrow();
    expect(() => readConfig(`${text}bogus: 1\n`, at)).toThrow('bogus');
  });

  const bird = blocks.filter(({ kind }) => kind === 'bird');
  it.each(bird)('for BIRD are accepted by BIRD: $at', ({ text }) => {
    const accepts = (config: string): boolean => {
      writeFileSync(join(directory, 'bird.conf'), config);
      return spawnSync('bird', ['-p', '-c', join(directory, 'bird.conf')]).status === 0;
    };
    expect(accepts(text)).toBe(true);
    expect(accepts(`${text}bogus;\n`)).toBe(false);
  });

  const demoSources = trackedFiles('packages/lab/src/demo/*.ts').map((path) =>
    readFileSync(root + path, 'utf8'),
  );
  const shown = blocks.filter(({ text }) => text.includes('✓')).flatMap(({ text }) => text.split('\n'));
  const titles = shown.flatMap((line) => /^ +✓ \d\.\d ([^:]+)|^\d (.+)$/.exec(line)?.slice(1) ?? []);
  it.each(titles.filter(Boolean))("of the demo's output tell its story: %s", (title) => {
    // Titles may be put together from parts; numbers are measured or counted.
    const parts = title.replace(/^[\d,]+ /, '').split(', ');
    const missing = parts.filter(
      (part) => !demoSources.some((source) => source.replaceAll("\\'", "'").includes(part)),
    );
    expect(missing).toEqual([]);
  });
});

describe('commands', () => {
  let nats: NatsServer;
  beforeAll(async () => {
    nats = await startNats();
    const example = readDocument('README.md').blocks.find(({ kind }) => kind === 'yaml');
    writeFileSync(join(directory, 'intent.yaml'), example?.text ?? '');
  });
  afterAll(async () => {
    await nats[Symbol.asyncDispose]();
  });
  /** As somebody types it, with no gateway running; the exit code. A wait is cut short. */
  const type = (command: string): Promise<{ code: number; said: string }> =>
    new Promise((resolve) => {
      const typed = command.includes(' --wait') ? `${command} --timeout 1s` : command;
      const PATH = `${root}bin:${process.env.PATH ?? ''}`;
      const options = { cwd: directory, env: { ...process.env, PATH, DETOUR_NATS: nats.url } };
      execFile('bash', ['-c', typed], options, (error, stdout, stderr) => {
        resolve({ code: typeof error?.code === 'number' ? error.code : 0, said: stdout + stderr });
      });
    });

  it.each(commands.filter(({ command }) => isCli(command)))('$at $command', async ({ command }) => {
    const { code, said } = await type(command);
    // With no gateway: done, or exactly what is missing is said. Never "failed", wrong arguments, or a refused document.
    // The documents' intent has one gateway, and the last one is not drained: 6.
    expect([0, 5, 7, 8, 9, ...(command.startsWith('detour drain-gateway') ? [6] : [])], said).toContain(code);
  });

  it('the command line refuses what no document should have', async () => {
    expect((await type('detour get nodes --bogus')).code).toBe(2);
    expect((await type('detour bogus')).code).toBe(2);
  });

  const targets = [...readFileSync(`${root}Makefile`, 'utf8').matchAll(/^([a-z-]+):/gm)].map(
    ([, name]) => name,
  );
  it('make help lists every verb', () => {
    const said = execFileSync('make', ['-s', 'help'], { cwd: root, encoding: 'utf8' });
    expect([...said.matchAll(/^ {2}make ([a-z-]+) /gm)].map(([, name]) => name)).toEqual(targets);
  });

  const others = commands.filter(({ command }) => !isCli(command) && command !== 'make help');
  const fixed = ['export PATH="$PWD/bin:$PATH"']; // what `type` does too
  it.each(others.filter(({ command }) => !fixed.includes(command)))(
    '$at $command is run by its test',
    ({ command }) => {
      const entry = RUN_ELSEWHERE.find((one) => one.command === command);
      expect(entry, `${command} is not in tools/docs/commands.ts`).toBeDefined();
      if (entry !== undefined) expect(readFileSync(root + entry.test, 'utf8')).toContain(entry.evidence);
    },
  );

  it('no test is named for a command that no document has', () => {
    const typed = commands.map(({ command }) => command);
    expect(RUN_ELSEWHERE.filter(({ command }) => !typed.includes(command))).toEqual([]);
  });

  it.each(Object.entries(RUN_WHOLE))('those of %s are run by %s', (path, test) => {
    expect(existsSync(root + path)).toBe(true);
    expect(readFileSync(root + test, 'utf8')).toContain(path);
  });

  it('in running text name verbs that exist', () => {
    const help = execFileSync(`${root}bin/detour`, ['--help'], { encoding: 'utf8' });
    const verbs = [...help.matchAll(/^ {2}([a-z-]+)(?: \[| {2})/gm)].map(([, verb]) => verb);
    const wrong = documents.flatMap(({ path, prose }) =>
      codeIn(prose).flatMap((code) => {
        const [, tool, verb] = /^(make|detour) ([a-z-]+)/.exec(code) ?? [];
        return tool === undefined || (tool === 'make' ? targets : verbs).includes(verb)
          ? []
          : [`${path}: ${code}`];
      }),
    );
    expect(verbs.length).toBeGreaterThan(8);
    expect(wrong).toEqual([]);
  });
});
