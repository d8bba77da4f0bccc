// SPDX-License-Identifier: Apache-2.0
// rtnetlink's question and answer about the XDP program of one device (rtnetlink(7), linux/if_link.h).

import { attributes, RTM } from './netlink-wire.js';

const NLM_F_REQUEST = 1;
const NLMSG_ERROR = 2;
const IFLA_IFNAME = 3;
const IFLA_EXT_MASK = 29;
const IFLA_XDP = 43;
const IFLA_XDP_ATTACHED = 2;
const RTEXT_FILTER_SKIP_STATS = 8;
const ENODEV = 19;

/** Of a device that is named: 16 bytes of header, struct ifinfomsg, the name, and that statistics are of no interest. */
export function xdpRequest(device: string, sequence: number): Uint8Array {
  const name = new TextEncoder().encode(`${device}\0`);
  const nameLen = (4 + name.byteLength + 3) & ~3;
  const bytes = new Uint8Array(32 + nameLen + 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.byteLength, true);
  view.setUint16(4, RTM.getLink, true);
  view.setUint16(6, NLM_F_REQUEST, true);
  view.setUint32(8, sequence, true);
  view.setUint16(32, 4 + name.byteLength, true);
  view.setUint16(34, IFLA_IFNAME, true);
  bytes.set(name, 36);
  view.setUint16(32 + nameLen, 8, true);
  view.setUint16(32 + nameLen + 2, IFLA_EXT_MASK, true);
  view.setUint32(32 + nameLen + 4, RTEXT_FILTER_SKIP_STATS, true);
  return bytes;
}

export interface XdpAnswer {
  readonly sequence: number;
  /** `bare`: the device is there, with no program in any mode. */
  readonly state: 'bare' | 'covered' | 'absent';
}

/** @throws RangeError when the kernel refused the question for another reason than that there is no such device. */
export function parseXdp(bytes: Uint8Array): XdpAnswer {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const sequence = view.getUint32(8, true);
  const type = view.getUint16(4, true);
  if (type === NLMSG_ERROR) {
    const errno = -view.getInt32(16, true);
    if (errno === ENODEV) return { sequence, state: 'absent' };
    throw new RangeError(`the kernel does not say what is on a device: errno ${errno}`);
  }
  if (type !== RTM.newLink)
    throw new RangeError(`rtnetlink message of type ${type} where a device was asked for`);
  const xdp = attributes(bytes.subarray(32, view.getUint32(0, true))).get(IFLA_XDP);
  const attached = xdp === undefined ? 0 : (attributes(xdp).get(IFLA_XDP_ATTACHED)?.[0] ?? 0);
  return { sequence, state: attached === 0 ? 'bare' : 'covered' };
}
