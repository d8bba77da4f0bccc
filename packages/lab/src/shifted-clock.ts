// SPDX-License-Identifier: Apache-2.0
/** A wall clock that is wrong, for one process: machines of one kernel share theirs, those of a network do not. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Fault } from '@detour/core';

const LIBRARIES = '/usr/lib';

/**
 * Environment of a process whose wall clock is so many seconds ahead (negative: behind). Only that clock: how much time passes, which timers
 * and the kernel's own records go by, is the machine's.
 * @throws Fault `not_found` where Debian's libfaketime is not installed.
 */
export function clockAhead(seconds: number): Readonly<Record<string, string>> {
  const library = readdirSync(LIBRARIES)
    .map((directory) => join(LIBRARIES, directory, 'faketime', 'libfaketime.so.1'))
    .find((file) => existsSync(file));
  if (library === undefined)
    throw new Fault(
      'not_found',
      `${LIBRARIES}/*/faketime/libfaketime.so.1 is not here: apt-get install libfaketime`,
    );
  const offset = seconds < 0 ? `${seconds}` : `+${seconds}`;
  return { LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: '1' };
}
