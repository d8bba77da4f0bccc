// SPDX-License-Identifier: Apache-2.0
// Links of all documents lead somewhere, the index has every page, and every source file says its licence.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';
import { allDocuments, anchorsOf, linksIn, readDocument, root, trackedFiles } from './documents.js';

describe('links', () => {
  it.each(allDocuments().map((document) => [document.path, document] as const))('of %s', (path, document) => {
    const broken = linksIn(document).filter((target) => {
      if (/^https?:/.test(target)) return false;
      const [file = '', anchor] = target.split('#');
      const to = file === '' ? path : normalize(join(dirname(path), file));
      if (!existsSync(root + to)) return true;
      return anchor !== undefined && !anchorsOf(readDocument(to)).has(anchor);
    });
    expect(broken).toEqual([]);
  });

  it('of the index reach every page and every decision', () => {
    const linked = linksIn(readDocument('docs/README.md')).map((target) => normalize(join('docs', target)));
    const pages = trackedFiles('docs/*.md').filter(
      (path) => !['docs/README.md', 'docs/acceptance.md'].includes(path),
    );
    expect(pages.filter((path) => !linked.includes(path))).toEqual([]);
  });
});

describe('licences', () => {
  const sources = trackedFiles(
    '*.ts',
    '*.mjs',
    '*.sh',
    '*.py',
    '*.proto',
    '*.c',
    '*.h',
    'Makefile',
    'bin/*',
    '.ci/*',
  ).filter((path) => !path.includes('/gen/') && statSync(root + path).isFile());
  it('are in the first lines of every source file', () => {
    const wrong = sources.filter((path) => {
      const said = /SPDX-License-Identifier: (.+?)(?: \*\/)?$/m.exec(
        readFileSync(root + path, 'utf8').slice(0, 200),
      );
      const due =
        /\.[ch]$/.test(path) || path.startsWith('datapath/') ? 'GPL-2.0-only OR BSD-2-Clause' : 'Apache-2.0';
      return said?.[1] !== due;
    });
    expect(wrong).toEqual([]);
    expect(sources.length).toBeGreaterThan(300);
  });
});
