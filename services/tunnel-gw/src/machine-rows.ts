// SPDX-License-Identifier: Apache-2.0
// The rows that depend on the machine as it is now: its links, the ways to nodes, the neighbours of their arms.
import { INJECT_DEVICES } from '@detour/contracts';
import type { Row } from './bank.js';
import type { LinkState } from './devices.js';
import type { MachineOptions } from './machine.js';
import type { GatewayModel } from './model.js';
import { baseRows } from './rows.js';

export interface MachineRowsOptions extends Pick<MachineOptions, 'ways' | 'lookupByRules' | 'onTrouble'> {
  /** What lacks its device is left out, with an alarm that names it; else that is a Fault. */
  readonly lenient: boolean;
}

/** @throws Fault `not_found` naming a device, unless lenient. */
export function machineRows(
  model: GatewayModel,
  links: ReadonlyMap<string, LinkState>,
  { ways, lookupByRules, onTrouble, lenient }: MachineRowsOptions,
): Row[] {
  const missing: string[] = [];
  const inputs = {
    ...{ model, links, lookupByRules },
    injectInner: INJECT_DEVICES[1],
    wayTo: (remote: string, device: string, peer: string | null) => ways.wayTo(remote, device, peer, links),
    neighbour: (device: string, address: string) => ways.macOf(device, address),
  };
  const rows = lenient ? baseRows(inputs, (fault) => missing.push(fault.detail)) : baseRows(inputs);
  onTrouble('device_missing', missing.length === 0 ? null : missing.join('; '));
  return rows;
}
