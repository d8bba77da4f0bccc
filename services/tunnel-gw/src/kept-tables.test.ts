// SPDX-License-Identifier: Apache-2.0
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '@detour/core';
import { revisionOf } from '@detour/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { gatewayModel } from './desired.js';
import { KeptTables } from './kept-tables.js';
import { TableBook, type TableSet } from './table-book.js';
import { chainRow, exampleText, pathRow, ruleRow } from './testdata.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'detour-kept-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const open = () => new KeptTables({ dir, gateway: 'edge1', log: silentLog, delayMs: 1 });
const version = (revision: number, epoch = 'e', sequence = 9n) => ({ epoch, sequence, revision });
const rows = { rules: [ruleRow()], paths: [chainRow({ paths: [pathRow(1, [1]), pathRow(2, [2])] })] };

function made(revision: number): { set: TableSet; revision: ReturnType<typeof revisionOf> } {
  const book = new TableBook();
  const document = revisionOf(exampleText(), { revision });
  book.offerModel(gatewayModel(document, 'edge1'), 'e');
  book.offerRules(rows.rules, version(revision));
  book.offerPaths(rows.paths, version(revision));
  return { set: book.complete() ?? expect.fail('not complete'), revision: document };
}

async function keep(revision = 4): Promise<void> {
  await using kept = open();
  const one = made(revision);
  kept.follow(one.revision, 'e');
  kept.published(one.set);
}

describe('KeptTables', () => {
  it('gives a successor what was in force, whole, readable by root alone', async () => {
    await keep();
    const found = await open().read();
    expect(found).toMatchObject({ epoch: 'e', revision: { revision: 4 }, rules: { version: version(4) } });
    if (typeof found === 'string') return;
    expect(found.rules.rows).toEqual(rows.rules);
    expect(found.paths.rows).toEqual(rows.paths);
    for (const part of ['intent', 'rules', 'paths'])
      expect(statSync(join(dir, `tables-edge1.${part}`)).mode & 0o777).toBe(0o600);
  });

  it('writes what is in force last, also where older files were readable by others', async () => {
    await keep(4);
    chmodSync(join(dir, 'tables-edge1.intent'), 0o644);
    await keep(5);
    expect(await open().read()).toMatchObject({ revision: { revision: 5 } });
    expect(statSync(join(dir, 'tables-edge1.intent')).mode & 0o777).toBe(0o600);
  });

  it('a set of a revision whose text it does not have is not written', async () => {
    await using kept = open();
    kept.published(made(4).set);
    await kept[Symbol.asyncDispose]();
    expect(await open().read()).toMatch(/no tables are kept in .*ENOENT/);
  });

  it('refuses parts of different revisions, damaged bytes, and nothing at all, by name', async () => {
    expect(await open().read()).toMatch(/no tables are kept/);
    await keep(4);
    const old = readFileSync(join(dir, 'tables-edge1.rules'));
    await keep(5);
    const now = readFileSync(join(dir, 'tables-edge1.rules'));
    writeFileSync(join(dir, 'tables-edge1.rules'), old);
    expect(await open().read()).toBe('the kept rules are of revision 4, the kept intent is revision 5');
    for (let at = 0; at < now.length; at++) {
      const bad = Buffer.from(now);
      bad[at] = (bad[at] ?? 0) ^ 0x41;
      writeFileSync(join(dir, 'tables-edge1.rules'), bad);
      const found = await open().read();
      // A sequence number that was damaged harms nothing; rows do.
      if (typeof found !== 'string') expect(found.rules.rows, `byte ${at}`).toEqual(rows.rules);
    }
    writeFileSync(join(dir, 'tables-edge1.rules'), now);
    expect(await open().read()).toMatchObject({ epoch: 'e' });
    truncateSync(join(dir, 'tables-edge1.intent'), 40);
    expect(await open().read()).toMatch(/JSON/);
  });
});

describe('TableBook.offerKept', () => {
  const kept = (revision: number) => ({
    epoch: 'e',
    rules: { rows: rows.rules, version: version(revision) },
    paths: { rows: rows.paths, version: version(revision) },
  });
  const model = (revision: number) => gatewayModel(revisionOf(exampleText(), { revision }), 'edge1');

  it('fills what has not come, and only that', () => {
    const book = new TableBook();
    book.offerModel(model(4), 'e');
    book.offerRules(rows.rules, version(4, 'e', 20n));
    expect(book.offerKept(model(4), kept(4))).toBe(true);
    expect(book.complete()?.rulesVersion.sequence).toBe(20n);
    expect(book.complete()?.pathsVersion.sequence).toBe(9n);
    expect(book.offerKept(model(4), kept(4))).toBe(false); // complete already
  });

  it('does nothing where NATS says another revision, and leaves what is there', () => {
    const book = new TableBook();
    book.offerModel(model(5), 'e');
    expect(book.offerKept(model(4), kept(4))).toBe(false);
    expect(book.waitingFor()).toMatch(/rules of revision 5.*paths of revision 5/);
    const other = new TableBook();
    other.offerRules(rows.rules, version(5));
    expect(other.offerKept(model(4), kept(4))).toBe(false);
    expect(other.waitingFor()).toBe('no intent has been read yet');
  });
});
