// SPDX-License-Identifier: Apache-2.0
// SNAT at the gateway of the lane `steer`: on the port by which packets leave, or on the one by which they come, with bindings for some flows.
import { type BpfObject, mapArray } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { parseAddress } from '@detour/core';
import { type Devices, PORT, u32, VRF } from './edge-tables.js';
import { flowEnds, type RecordedFlows } from './flow-records.js';
import { DESTINATION, flowSource } from './generator-protocol.js';
import { REFLECTOR, SNAT_INNER } from './lanes.js';

const OUTSIDE = '198.51.100.1';

/** Flows whose packets leave with another source. */
export const SNAT_OUT: RecordedFlows = { base: 0x0a06_0001, number: REFLECTOR.number };
/** Replies of flows that began outside: they leave by the same port, as they are. */
export const SNAT_REPLIES: RecordedFlows = { base: 0x0a06_1001, number: REFLECTOR.number, reply: true };
/** Replies to what left with another source: their destination becomes the inner end. */
export const SNAT_IN: RecordedFlows = {
  ...{ base: 0x0a06_2001, number: REFLECTOR.number, reply: true },
  destination: SNAT_INNER,
};

/** Bindings of so many flows, made once; without SNAT on a port nothing looks at them. */
export function putBindings(edge: BpfObject, count: number): void {
  const addr = addressNumber(OUTSIDE);
  for (let i = 0; i < count; i++) {
    const { key, norm } = flowEnds(SNAT_OUT, i);
    const binding = { addr, port: 20_000 + i, outPort: PORT.outside, innerIsB: norm, scope: 0, lastNs: 0n };
    edge.map('snat_bindings').update(abi.flowKey.encode(key), abi.snatBinding.encode(binding));
    const remote = flowSource(SNAT_IN.base, i);
    const outer = {
      ...{ addr: addressNumber(DESTINATION.address), remote: remote.address, port: DESTINATION.port },
      ...{ remotePort: remote.port, vrf: VRF, proto: 17 },
    };
    const inner = { addr: addressNumber(SNAT_INNER), port: DESTINATION.port };
    edge.map('snat_inners').update(abi.snatKey.encode(outer), abi.snatInner.encode(inner));
  }
}

/** Which port has SNAT from now on; what packets have learned of the way out is forgotten. */
export function setSnat(edge: BpfObject, devices: Devices, on: 'none' | 'out' | 'in'): void {
  const { PORT_SNAT } = abi.PortFlag;
  const row = abi.portKey.encode({ ifindex: devices.get('in0') ?? 0, vlan: 0, inner: 0, bank: 0 });
  const port = abi.port.decode(edge.map('ports').lookup(row) ?? new Uint8Array(0));
  const flags = on === 'in' ? port.flags | PORT_SNAT : port.flags & ~PORT_SNAT;
  edge.map('ports').update(row, abi.port.encode({ ...port, flags }));
  const way = abi.egressKey.encode({ ifindex: devices.get('out0') ?? 0, bank: 0 });
  if (on === 'out') edge.map('egress').update(way, u32(abi.EgressFlag.EGRESS_SNAT | PORT.outside));
  else edge.map('egress').delete(way);
  using control = mapArray(edge.map('control'));
  const live = abi.control.decode(control.element(0));
  abi.control.write({ ...live, routeGen: live.routeGen + 1 }, control.element(0));
}

function addressNumber(text: string): number {
  const bytes = parseAddress(text) ?? new Uint8Array(16);
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(12);
}
