// SPDX-License-Identifier: Apache-2.0
// Where things are in the standard lab: pins, sockets, addresses.
import { abi } from '@detour/contracts';
import { type Lab, standardTable } from '@detour/lab';

export const ABI_PIN = { hash: abi.ABI_HASH, table: String(standardTable) } as const;

export interface StackPlaces {
  /** Directory on the bpffs for the benchmark's own pins. */
  readonly benchPin: string;
  readonly endsPin: string;
  /** The gateway's maps. */
  readonly mapsPin: string;
  readonly runDir: string;
  readonly gatewayMac: string;
  readonly clientAddress: string;
}

export function stackPlaces(lab: Lab): StackPlaces {
  const benchPin = `${lab.pinPrefix}bench`;
  return {
    benchPin,
    endsPin: `${benchPin}/ends`,
    mapsPin: `${lab.pinPrefix}edge1/${ABI_PIN.hash}/maps`,
    runDir: `${lab.dir}/run-edge1`,
    gatewayMac: '02:00:00:01:00:01',
    clientAddress: '10.1.0.10',
  };
}
