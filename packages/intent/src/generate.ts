// SPDX-License-Identifier: Apache-2.0
/** Writes gen/intent.schema.json: `node packages/intent/dist/generate.js` after a build. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { jsonSchemaText } from './json-schema.js';

const directory = fileURLToPath(new URL('../gen/', import.meta.url));
mkdirSync(directory, { recursive: true });
writeFileSync(`${directory}intent.schema.json`, jsonSchemaText());
