// SPDX-License-Identifier: Apache-2.0
// Exit codes of services, as documented in the README.
import { Fault, type FaultCode } from '@detour/core';

export const EXIT = { ok: 0, failed: 1, configuration: 2, machine: 3 } as const;

const BY_CODE: Readonly<Record<FaultCode, number>> = {
  invalid: EXIT.configuration,
  not_found: EXIT.failed,
  conflict: EXIT.failed,
  unavailable: EXIT.failed,
  timeout: EXIT.failed,
  missing_feature: EXIT.machine,
  permission: EXIT.machine,
  exhausted: EXIT.failed,
  refused: EXIT.failed,
  internal: EXIT.failed,
};

/** The exit code for what was thrown. */
export function exitCodeOf(error: unknown): number {
  return error instanceof Fault ? BY_CODE[error.code] : EXIT.failed;
}
