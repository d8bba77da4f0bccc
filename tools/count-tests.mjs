// SPDX-License-Identifier: Apache-2.0
// Prints what failed and why something was skipped, then one line: N passed, N failed, N skipped. A run that left no result counts as failed.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

// Arguments: the directory with vitest's reports as JSON, and the name of one report (all, if none is given).
const [dir = 'build/results', only] = process.argv.slice(2);
/** The beginning of each attempt's failure, indented; where it was thrown is in the report itself. */
function reasons(messages) {
  const LINES = 8;
  const texts = new Set(messages.map((message) => stripVTControlCharacters(message)));
  return [...texts]
    .map((text) =>
      text
        .split('\n')
        .slice(0, LINES)
        .map((line) => `    ${line.slice(0, 300)}\n`)
        .join(''),
    )
    .join('');
}

let passed = 0;
let failed = 0;
let skipped = 0;
for (const name of readdirSync(dir).filter((file) =>
  only === undefined ? file.endsWith('.json') : file === `${only}.json`,
)) {
  const report = JSON.parse(readFileSync(join(dir, name), 'utf8'));
  for (const file of report.testResults) {
    if (file.status === 'failed' && file.assertionResults.length === 0) {
      failed++;
      process.stdout.write(`FAILED ${file.name}: ${file.message}\n`);
    }
    for (const test of file.assertionResults) {
      if (test.status === 'passed') passed++;
      else if (test.status === 'failed') {
        failed++;
        process.stdout.write(`FAILED ${test.fullName}\n${reasons(test.failureMessages)}`);
      } else {
        skipped++;
        process.stdout.write(`SKIPPED ${test.fullName}\n`);
      }
    }
  }
}
if (passed + failed === 0) failed = 1;
process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
process.exitCode = failed === 0 ? 0 : 1;
