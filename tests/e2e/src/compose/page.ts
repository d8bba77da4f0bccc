// SPDX-License-Identifier: Apache-2.0
/** The commands and tables of deploy/README.md. */
import { readFileSync } from 'node:fs';
import { composeRoot } from '@detour/lab';

const text = readFileSync(`${composeRoot}deploy/README.md`, 'utf8');

/** Commands of the `sh` blocks below a heading, in their order. */
export function commandsOf(heading: string): string[] {
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`deploy/README.md has no heading "${heading}"`);
  const blocks = [...section.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, block]) => block ?? '');
  return blocks.flatMap((block) => block.split('\n').filter((line) => line !== ''));
}

/** Headings that have commands: none may be left out of the test. */
export function headingsWithCommands(): string[] {
  return text
    .split(/^## /m)
    .filter((part) => part.includes('```sh\n'))
    .map((part) => part.slice(0, part.indexOf('\n')));
}

export interface Allowed {
  readonly user: string;
  readonly capabilities: readonly string[];
}

/** Container → what the page says that it may do. */
export function allowedOf(): Map<string, Allowed> {
  const [, table = ''] = text.split('<!-- checked: capabilities -->');
  const rows = table.split('\n').filter((line) => line.startsWith('|'));
  const end = rows.findIndex((row) => row.includes('subnet'));
  return new Map(
    rows.slice(2, end < 0 ? undefined : end).map((row) => {
      const [name = '', user = '', capabilities = ''] = row
        .split('|')
        .slice(1)
        .map((cell) => cell.trim());
      return [name, { user, capabilities: capabilities === '-' ? [] : capabilities.split(', ') }];
    }),
  );
}
