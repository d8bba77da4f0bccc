// SPDX-License-Identifier: Apache-2.0
/** Exit codes of `detour`; documented in cli/README.md, relied on by scripts. */
import { Fault, type FaultCode } from '@detour/core';

export const EXIT = {
  ok: 0,
  /** Something failed that has no code of its own. */
  failed: 1,
  /** Wrong arguments, flags or environment. */
  usage: 2,
  /** The intent document is refused. */
  document: 3,
  /** Somebody else changed the intent first. */
  conflict: 4,
  /** NATS or a service that is needed does not answer. */
  unavailable: 5,
  /** A gateway, or a service, refused what it was asked. */
  refused: 6,
  /** Not done by --timeout. */
  timeout: 7,
  /** What was named does not exist. */
  notFound: 8,
  /** `status`: something does not run, or alarms are raised. */
  degraded: 9,
  interrupted: 130,
} as const;

const BY_FAULT: Readonly<Record<FaultCode, number>> = {
  invalid: EXIT.usage,
  not_found: EXIT.notFound,
  conflict: EXIT.conflict,
  unavailable: EXIT.unavailable,
  timeout: EXIT.timeout,
  missing_feature: EXIT.failed,
  permission: EXIT.failed,
  exhausted: EXIT.failed,
  refused: EXIT.refused,
  internal: EXIT.failed,
};

/** The exit code for what was thrown. */
export function exitCodeOf(error: unknown): number {
  return error instanceof Fault ? BY_FAULT[error.code] : EXIT.failed;
}
