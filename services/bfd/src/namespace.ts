// SPDX-License-Identifier: Apache-2.0
// A thread in a network namespace of its own: tests run the threads of one process in several.

import { C, lastFault, libc } from './libc.js';

/** Moves the calling thread alone. @throws Fault */
export function enterNamespace(path: string): void {
  const fd = libc().open(path, C.O_RDONLY);
  if (fd < 0) throw lastFault(`opening network namespace ${path}`);
  const entered = libc().setns(fd, C.CLONE_NEWNET);
  if (entered < 0) throw lastFault(`entering network namespace ${path}`);
  libc().close(fd);
}
