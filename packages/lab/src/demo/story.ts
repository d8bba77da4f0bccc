// SPDX-License-Identifier: Apache-2.0
/** The acts in their order. The first is always played; each of the others stands for itself. */
import type { Act } from './act.js';
import { applyAct } from './act-apply.js';
import { drainAct } from './act-drain.js';
import { failoverAct } from './act-failover.js';
import { returnAct } from './act-return.js';
import { spreadAct } from './act-spread.js';
import { steerAct } from './act-steer.js';
import { traceAct } from './act-trace.js';

export const story: readonly [Act, ...Act[]] = [
  applyAct,
  steerAct,
  spreadAct,
  failoverAct,
  returnAct,
  drainAct,
  traceAct,
];
