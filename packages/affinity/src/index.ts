// SPDX-License-Identifier: Apache-2.0
// Redis: which path a flow keeps, shared by all gateways.
export {
  type Affinity,
  type AffinityCounters,
  type AffinitySpec,
  openAffinity,
  type Pin,
  type PinRequest,
} from './affinity.js';
export type { Answer } from './link.js';
export { winnerOf } from './winner.js';
