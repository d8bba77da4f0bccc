// SPDX-License-Identifier: Apache-2.0
// Numbers, MACs and addresses as the datapath's rows and keys hold them.
import { Fault, parseAddress } from '@detour/core';

export function u32Key(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

export function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':').map((part) => Number.parseInt(part, 16)));
}

/** @throws Fault `invalid` for text that is no address. */
export function addressBytes(text: string): Uint8Array {
  const bytes = parseAddress(text);
  if (bytes === null) throw new Fault('invalid', `${text} is no IPv4 or IPv6 address`);
  return bytes;
}
