// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { jsonSchemaText } from './json-schema.js';

it('gen/intent.schema.json is what `node packages/intent/dist/generate.js` writes', () => {
  expect(readFileSync(new URL('../gen/intent.schema.json', import.meta.url), 'utf8')).toBe(jsonSchemaText());
});
