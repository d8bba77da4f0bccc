// SPDX-License-Identifier: Apache-2.0
// What is known of a session's node beside its control session and its echo, as far as its health profile asks for it.

import type { Evidence } from './health.js';
import type { Findings, RouteState, SessionSpec } from './loop-messages.js';

export function evidenceFound(
  spec: SessionSpec,
  findings: Findings,
): Pick<Evidence, 'noControl' | 'tcp' | 'route'> {
  const route = routeFound(spec, findings);
  return {
    ...(spec.noControl && { noControl: true }),
    ...(spec.tcp && { tcp: findings.tcp ?? 'unknown' }),
    ...(route && { route }),
  };
}

/** Null when no routes are asked for. */
export function routeFound(spec: SessionSpec, findings: Findings): RouteState | null {
  if (spec.route === undefined) return null;
  return findings.route ?? { state: 'unknown', why: '' };
}
