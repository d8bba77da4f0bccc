// SPDX-License-Identifier: Apache-2.0
// What two processes must agree on: generated messages and ABI, and the names of keys, subjects and devices.
import * as abi from './gen/abi.js';

export {
  branchDeviceName,
  branchInnerDeviceName,
  branchMacAddress,
  GUARD_TABLE,
  INJECT_DEVICES,
  vtiDeviceName,
  vtiInnerDeviceName,
  vtiMacAddress,
} from './device-names.js';
/** Layouts and constants of the datapath's maps and events: `abi.flow.decode(bytes)`, `abi.DropReason`, `abi.FlowKey`. */
export { abi };
