// SPDX-License-Identifier: Apache-2.0
// What a trace reads, gathered from the running gateway.

import { compareAddresses, Fault } from '@detour/core';
import { hasEnded } from './flow-head.js';
import type { Gateway } from './gateway.js';
import { lookUpRoute } from './route-lookup.js';
import { addressBytes } from './row-bytes.js';
import type { TableSet } from './table-book.js';
import type { TraceView } from './trace-answer.js';

/** As datapath/lib/flow.h has it. */
const ANSWER_NS = 250_000_000n;

/** @throws Fault `unavailable` before the first version is live. */
export function traceView(gateway: Gateway, set: TableSet): TraceView {
  const tables = gateway.core.liveTables;
  if (tables === null)
    throw new Fault('unavailable', 'no revision is live on this gateway yet: see detour status');
  const { model } = set;
  const mtuOf = (device: string) => gateway.core.view.linkOf(device)?.mtu ?? 0;
  return {
    model,
    tables,
    live: gateway.datapath.live,
    record: (key) => gateway.flows.read(key),
    outdated: (flow) => {
      if (flow.slot !== 0) return hasEnded(gateway.flows.activity(flow.slot).seen) ? 'ended' : null;
      const asksAgain = tables.chains.get(flow.chain)?.decides === 'opening';
      return asksAgain && process.hrtime.bigint() - flow.createdNs > ANSWER_NS ? 'not answered' : null;
    },
    isOwn: (vrf, address) => {
      const devices = [
        ...[...model.ports, ...model.nodes].filter((row) => row.vrf === vrf).map((row) => row.device),
        ...model.armed.filter((row) => row.vrf === vrf).flatMap((row) => row.arms.map((arm) => arm.device)),
      ];
      return devices.some((device) =>
        (gateway.core.view.linkOf(device)?.addresses ?? []).some(
          (cidr) => compareAddresses(addressBytes(cidr.slice(0, cidr.indexOf('/'))), address) === 0,
        ),
      );
    },
    route: (table, dst) => lookUpRoute(table, dst, mtuOf),
    neighbour: (device, address) => gateway.neighbours.macOf(device, address),
    snat: gateway.desks.snatTable,
    hop: (node) => {
      const why = gateway.ways.explain(node);
      return { ready: why === '', why, mtu: gateway.core.view.hopMtu(node) };
    },
  };
}
