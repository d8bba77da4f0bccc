// SPDX-License-Identifier: Apache-2.0
// A file of lines that is only ever appended to, off the main loop's way. Whoever rotates it renames or removes it: the next lines go to a new
// file of the old name, so nobody need be told. What waits for a slow disk is bounded; what does not fit, or cannot be written, is counted.
import { type FileHandle, open, stat } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { describeError } from '@detour/core';

export interface LineFileOptions {
  /** Absolute. */
  readonly path: string;
  /** Why lines cannot be written; null once they can again. */
  readonly onTrouble: (why: string | null) => void;
  /** Bytes that may wait. */
  readonly maxBytes?: number;
}

/** Who was where is for its operator alone. */
const MODE = 0o640;
const MAX_BYTES = 8 << 20;

export class LineFile implements AsyncDisposable {
  /** Lines that were taken and could not be written. */
  lost = 0;
  private handle: FileHandle | null = null;
  private waiting: string[] = [];
  private waitingBytes = 0;
  private writing: Promise<void> | null = null;
  private failed = false;
  /** The file ends in the middle of a line. */
  private torn = false;

  constructor(private readonly options: LineFileOptions) {}

  /** False when too much waits already: then the line is not written. `line` has no line feed. */
  write(line: string): boolean {
    const bytes = Buffer.byteLength(line) + 1;
    if (this.waitingBytes + bytes > (this.options.maxBytes ?? MAX_BYTES)) return false;
    this.waiting.push(line);
    this.waitingBytes += bytes;
    this.writing ??= this.drain();
    return true;
  }

  /** Resolves when nothing waits. */
  async settled(): Promise<void> {
    while (this.writing !== null) await this.writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.settled();
    await this.close();
  }

  private async drain(): Promise<void> {
    await setImmediate(); // the lines of one turn go together
    while (this.waiting.length > 0) {
      const lines = this.waiting;
      this.waiting = [];
      this.waitingBytes = 0;
      await this.append(lines);
    }
    this.writing = null;
  }

  private async append(lines: readonly string[]): Promise<void> {
    try {
      const handle = await this.opened();
      const bytes = Buffer.from(`${this.torn ? '\n' : ''}${lines.join('\n')}\n`);
      let at = 0;
      try {
        while (at < bytes.length) at += (await handle.write(bytes, at)).bytesWritten;
        this.torn = false;
      } finally {
        if (at > 0 && at < bytes.length) this.torn = bytes[at - 1] !== LINE_FEED;
      }
      if (this.failed) this.options.onTrouble(null);
      this.failed = false;
    } catch (error) {
      this.lost += lines.length;
      this.failed = true;
      this.options.onTrouble(describeError(error));
      await this.close();
    }
  }

  /** The file of this name, as it is now. */
  private async opened(): Promise<FileHandle> {
    const { path } = this.options;
    if (this.handle !== null) {
      const [held, named] = await Promise.all([this.handle.stat(), stat(path).catch(() => null)]);
      if (named?.ino === held.ino && named.dev === held.dev) return this.handle;
      this.torn = false;
      await this.close();
    }
    this.handle = await open(path, 'a', MODE);
    return this.handle;
  }

  private async close(): Promise<void> {
    const { handle } = this;
    this.handle = null;
    await handle?.close().catch(() => {}); // its lines are written or counted already
  }
}

const LINE_FEED = 0x0a;
