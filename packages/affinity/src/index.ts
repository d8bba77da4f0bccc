// SPDX-License-Identifier: Apache-2.0
// Redis: which path a flow keeps, shared by all gateways.
export {
  type Affinity,
  type AffinityCounters,
  type AffinitySpec,
  openAffinity,
  type Pin,
  type PinRequest,
  type Refreshed,
  type RepinRequest,
} from './affinity.js';
export type { Claim, Claims } from './claims.js';
export type { Answer } from './link.js';
export { type Settlement, type Standing, settlePin, winnerOf } from './winner.js';
