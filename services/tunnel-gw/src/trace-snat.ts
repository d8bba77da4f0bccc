// SPDX-License-Identifier: Apache-2.0
// The parts of a trace that have to do with SNAT, as datapath/lib/snat.h does them: what comes back to a binding, and what leaves with one.
import { formatAddress, isMappedV4, normaliseTuple, PROTO, type Tuple } from '@detour/core';
import type { PortModel } from './model.js';
import { addressBytes } from './row-bytes.js';
import { bindingText, ipv4Number } from './snat-table.js';
import { type Add, drop, type End, punt, type TraceView } from './trace-answer.js';

/** The packet's tuple inside, or its end: to a SNAT address that is nobody's binding and not this gateway's own. */
export function enteredSnat(view: TraceView, port: PortModel, tuple: Tuple, add: Add): Tuple | End {
  if (!isMappedV4(tuple.dst)) return tuple;
  const use = {
    ...{ vrf: tuple.vrf, proto: tuple.proto, address: ipv4Number(tuple.dst), remote: ipv4Number(tuple.src) },
    remotePort: tuple.proto === PROTO.icmp ? 0 : tuple.sport,
  };
  const inner = port.snat === undefined ? null : view.snat.innerOf(use, tuple.dport);
  if (inner !== null) {
    const dst = addressBytes(bindingText({ address: inner.address, port: 0 }));
    add(
      'snat',
      `to ${bindingText(inner)}`,
      `the binding of ${bindingText({ address: use.address, port: tuple.dport })}`,
    );
    const sport = tuple.proto === PROTO.icmp ? inner.port : tuple.sport;
    return { ...tuple, dst, dport: inner.port, sport };
  }
  const to = formatAddress(tuple.dst);
  const isSnat = view.model.ports.some(({ vrf, snat }) => vrf === port.vrf && snat === to);
  if (!isSnat || view.isOwn(port.vrf, tuple.dst) || view.record(normaliseTuple(tuple).key) !== null)
    return tuple;
  if (port.snat === to && port.snatShared === true) {
    add('snat', 'no binding here', `other gateways give ${to} to their flows too: Redis is asked which`);
    return punt('snat');
  }
  add(
    'snat',
    'no binding',
    `${to} is a SNAT address, and no flow here has this port of it towards this remote end`,
  );
  return drop('snat_unknown');
}

/** What its source becomes where it leaves; said, not done. */
export function leavingSnat(
  view: TraceView,
  { device, tuple, direction }: { readonly device: string; readonly tuple: Tuple; readonly direction: 0 | 1 },
  add: Add,
): void {
  const port = view.model.ports.find((row) => row.device === device && row.snat !== undefined);
  if (port?.snat === undefined || !isMappedV4(tuple.src)) return;
  const { key, norm } = normaliseTuple(tuple);
  const binding = view.snat.read(key);
  if (binding === null && direction === 1) {
    add('snat', 'none', 'its flow began outside');
    return;
  }
  if (binding !== null && binding.innerIsB !== (norm === 1)) return;
  if (binding === null || binding.outPort !== port.number)
    add('snat', `from ${port.snat}`, 'a binding is made for the first packet that leaves');
  else add('snat', `from ${bindingText(binding)}`, 'the binding of its flow');
}
