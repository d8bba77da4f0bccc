// SPDX-License-Identifier: Apache-2.0
// That this gateway is drained, and by whom, in a file of the run directory: read by a tunnel-gw that starts, before NATS has answered.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeError, type Log } from '@detour/core';

export interface KeptDrainOptions {
  readonly dir: string;
  readonly gateway: string;
  readonly log: Log;
}

export class KeptDrain {
  private readonly file: string;
  private by: string | null = null;

  constructor(private readonly options: KeptDrainOptions) {
    this.file = join(options.dir, `drained-${options.gateway}`);
  }

  /** Who drained it; null when it is not. */
  read(): string | null {
    try {
      this.by = readFileSync(this.file, 'utf8').trim();
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT'))
        this.options.log.warn({}, `whether this gateway is drained is not known: ${describeError(error)}`);
    }
    return this.by;
  }

  /** Null: it is not drained any more. */
  keep(by: string | null): void {
    if (by === this.by) return;
    try {
      if (by === null) rmSync(this.file, { force: true });
      else writeFileSync(this.file, `${by}\n`, { mode: 0o644 });
      this.by = by;
    } catch (error) {
      this.options.log.warn(
        {},
        `a restart without NATS will not know whether this gateway is drained: ${describeError(error)}`,
      );
    }
  }
}
