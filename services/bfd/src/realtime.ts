// SPDX-License-Identifier: Apache-2.0
// Punctual under load: real-time priority for the two threads that a failure passes through, and for no other of this process.
import { C, libc } from './libc.js';

/** The lowest two. The timing thread goes before the main thread: what that has to do (gRPC, NATS) must not delay a packet. */
const PRIORITY = { timing: 2, telling: 1 } as const;

/** For the calling thread; false where the right (CAP_SYS_NICE) is missing: then it runs as any other. */
export function becomeRealtime(role: keyof typeof PRIORITY): boolean {
  const policy = C.SCHED_RR | C.SCHED_RESET_ON_FORK;
  return libc().schedSetscheduler(0, policy, Int32Array.of(PRIORITY[role])) === 0;
}
