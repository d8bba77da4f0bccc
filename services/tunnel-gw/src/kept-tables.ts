// SPDX-License-Identifier: Apache-2.0
// The last tables in force, kept in the run directory, so that a tunnel-gw that starts while no controller can be reached decides new flows as
// its predecessor did. Written after they are live, each part only when it changed, off the packets' way; read once, at start. The
// revision holds the secret of the selection hash: the files are for root alone.
import { chmod, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ChainRow, PathUpdate, type RuleRow, RuleUpdate, type TableVersion } from '@detour/contracts';
import { describeError, type Log } from '@detour/core';
import { decodeRevision, encodeRevision, type Revision } from '@detour/intent';
import { digestChains, digestRules } from '@detour/tables';
import type { TableSet } from './table-book.js';

/** All three parts of one revision, as they were in force. */
export interface KeptSet {
  readonly revision: Revision;
  readonly epoch: string;
  readonly rules: { readonly rows: readonly RuleRow[]; readonly version: TableVersion };
  readonly paths: { readonly rows: readonly ChainRow[]; readonly version: TableVersion };
}

export interface KeptTablesOptions {
  readonly dir: string;
  readonly gateway: string;
  readonly log: Log;
  /** Milliseconds between a publication and its writing: what follows within them is written with it (default 1,000). */
  readonly delayMs?: number;
}

type Part = 'intent' | 'rules' | 'paths';

export class KeptTables implements AsyncDisposable {
  private revision: { readonly revision: Revision; readonly epoch: string } | null = null;
  private set: TableSet | null = null;
  private timer: NodeJS.Timeout | null = null;
  private work: Promise<void> = Promise.resolve();
  /** What each file holds, by identity. */
  private readonly written = new Map<Part, unknown>();

  constructor(private readonly options: KeptTablesOptions) {}

  /** The revision that the next published set is of. */
  follow(revision: Revision, epoch: string): void {
    this.revision = { revision, epoch };
  }

  /** A set is in force: it is written soon. */
  published(set: TableSet): void {
    this.set = set;
    this.timer ??= setTimeout(() => this.flush(), this.options.delayMs ?? 1_000);
  }

  /** What a predecessor kept; a sentence when there is nothing to use. */
  async read(): Promise<KeptSet | string> {
    try {
      const [intent, rules, paths] = await Promise.all([
        readFile(this.file('intent'), 'utf8'),
        readFile(this.file('rules')),
        readFile(this.file('paths')),
      ]);
      return readKept(intent, RuleUpdate.decode(rules), PathUpdate.decode(paths));
    } catch (error) {
      return `no tables are kept in ${this.options.dir}: ${describeError(error)}`;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.timer !== null) this.flush();
    await this.work;
  }

  private flush(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const { set, revision } = this;
    if (set === null || revision?.revision.revision !== set.model.revision) return;
    this.work = this.work
      .then(() => this.write(set, revision))
      .catch((error: unknown) =>
        this.options.log.warn(
          {},
          `the tables in force are not kept for a restart without controllers: ${describeError(error)}`,
        ),
      );
  }

  private async write(set: TableSet, from: { revision: Revision; epoch: string }): Promise<void> {
    const { ruleRows, chains, rulesVersion, pathsVersion } = set;
    await this.put('rules', ruleRows, () =>
      RuleUpdate.encode({
        version: rulesVersion,
        full: true,
        upserts: [...ruleRows],
        removes: [],
        digest: digestRules(ruleRows),
      }).finish(),
    );
    await this.put('paths', chains, () =>
      PathUpdate.encode({
        version: pathsVersion,
        full: true,
        upserts: [...chains],
        removes: [],
        digest: digestChains(chains),
      }).finish(),
    );
    await this.put('intent', from.revision, () => `${from.epoch}\n${encodeRevision(from.revision).text}`);
  }

  /** Whole or not at all: written beside, then renamed. */
  private async put(part: Part, identity: unknown, encode: () => string | Uint8Array): Promise<void> {
    if (this.written.get(part) === identity) return;
    const file = this.file(part);
    await writeFile(`${file}.new`, encode(), { mode: 0o600 });
    await chmod(`${file}.new`, 0o600); // also where the file was there
    await rename(`${file}.new`, file);
    this.written.set(part, identity);
  }

  private file(part: Part): string {
    return join(this.options.dir, `tables-${this.options.gateway}.${part}`);
  }
}

function readKept(intent: string, rules: RuleUpdate, paths: PathUpdate): KeptSet | string {
  const at = intent.indexOf('\n');
  const epoch = intent.slice(0, at);
  const decoded = decodeRevision(intent.slice(at + 1));
  if (!decoded.ok) return decoded.why;
  const { revision } = decoded;
  const tables = [
    ['rules', rules.version, digestRules(rules.upserts), rules.digest],
    ['paths', paths.version, digestChains(paths.upserts), paths.digest],
  ] as const;
  for (const [part, version, made, digest] of tables) {
    if (version?.revision !== revision.revision || version.epoch !== epoch)
      return `the kept ${part} are of revision ${version?.revision ?? 0}, the kept intent is revision ${revision.revision}`;
    if (Buffer.compare(made, digest) !== 0) return `the kept ${part} do not match their digest`;
  }
  if (rules.version === undefined || paths.version === undefined) return 'the kept tables have no version';
  return {
    revision,
    epoch,
    rules: { rows: rules.upserts, version: rules.version },
    paths: { rows: paths.upserts, version: paths.version },
  };
}
