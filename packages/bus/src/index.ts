// SPDX-License-Identifier: Apache-2.0
// NATS: the state bucket and its mirror, instances, alarms, intent revisions.
export { type ActiveAlarm, AlarmBook, type AlarmBookSpec, type AlarmEvent } from './alarms.js';
export { type Bus, type BusSpec, connectBus } from './connection.js';
export {
  type DecodedIntent,
  type FollowedIntent,
  type FollowIntentSpec,
  followIntent,
  readIntentHead,
} from './follow-intent.js';
export {
  type InstanceWatch,
  type InstanceWatchSpec,
  type LiveInstance,
  type Registration,
  type RegistrationSpec,
  registerInstance,
  watchInstances,
} from './instances.js';
export { type IntentStore, MAX_INTENT_BYTES, openIntentStore } from './intent-store.js';
export { type StateBatch, type StateChange, StateMirror } from './mirror.js';
export { openState, type State, type StateEntry } from './state.js';
