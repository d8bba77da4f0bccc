// SPDX-License-Identifier: Apache-2.0
// Reads what DeliveryWatch judges: for each of the operator's devices, the datapath's count and the device's own.
import { readFileSync } from 'node:fs';
import { abi } from '@detour/contracts';
import { type CounterMaps, readSent } from './counters.js';
import { type DeliveryWatch, type DeviceTally, parseSentPackets, silentText } from './delivery-watch.js';
import type { LinkState } from './devices.js';
import type { GatewayModel } from './model.js';

/** This thread's network namespace, as setns(2) leaves it. */
const DEVICE_COUNTERS = '/proc/thread-self/net/dev';

export interface DeliverySources {
  readonly model: GatewayModel;
  readonly maps: CounterMaps;
  readonly linkOf: (device: string) => LinkState | undefined;
}

/** What is wrong with the delivery of this gateway's ports, as text; null when nothing is. */
export function checkDelivery(watch: DeliveryWatch, sources: DeliverySources): string | null {
  const names = portNames(sources.model);
  const tallies = readTallies(sources, [...names.keys()]);
  const silent = watch.look(tallies).map((row) => silentText(names.get(row.device) ?? row.device, row));
  return silent.length === 0 ? null : silent.join('; ');
}

function portNames({ ports, underlay }: GatewayModel): Map<string, string> {
  const own = ports.filter(({ tunnel }) => tunnel === null);
  return new Map([
    [underlay.device, 'underlay'],
    ...own.map((port): [string, string] => [port.device, port.name]),
  ]);
}

/** Devices whose frames share a row with another's are left out: they cannot be told apart. */
function readTallies({ maps, linkOf }: DeliverySources, devices: readonly string[]): DeviceTally[] {
  const rows = new Map<number, { device: string; ifindex: number }[]>();
  for (const device of devices) {
    const ifindex = linkOf(device)?.ifindex;
    if (ifindex === undefined) continue;
    const row = ifindex % abi.DetourLimit.DT_SENT_ROWS;
    rows.set(row, [...(rows.get(row) ?? []), { device, ifindex }]);
  }
  // The datapath's count first: what is sent meanwhile only speaks for the device.
  const handed = [...rows.values()].flatMap((sharing) =>
    sharing.length > 1 ? [] : sharing.map((row) => ({ ...row, handed: readSent(maps, row.ifindex) })),
  );
  const sent = parseSentPackets(readFileSync(DEVICE_COUNTERS, 'utf8'));
  return handed.flatMap((row) => {
    const count = sent.get(row.device);
    return count === undefined ? [] : [{ ...row, sent: count }];
  });
}
