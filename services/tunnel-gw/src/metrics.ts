// SPDX-License-Identifier: Apache-2.0
// What Prometheus sees of a gateway: verdicts, drops by reason, ports, nodes, flows, decisions; read from the maps when somebody scrapes.
import type { Meter } from '@opentelemetry/api';
import { readDrops, readNode, readPort, readStats } from './counters.js';
import type { Gateway } from './gateway.js';
import type { Measuring } from './measuring.js';
import { type AnyNode, everyNode } from './model.js';
import type { PinKeeper } from './pin-keeper.js';

interface Others {
  readonly keeper: PinKeeper;
  readonly measuring: Measuring;
}

export function gatewayMetrics(gateway: Gateway, { keeper, measuring }: Others, meter: Meter): void {
  const counter = (
    name: string,
    description: string,
    read: () => Iterable<[number, Record<string, string>]>,
  ) =>
    meter.createObservableCounter(name, { description }).addCallback((result) => {
      for (const [value, labels] of read()) result.observe(value, labels);
    });
  const gauge = (name: string, description: string, read: () => Iterable<[number, Record<string, string>]>) =>
    meter.createObservableGauge(name, { description }).addCallback((result) => {
      for (const [value, labels] of read()) result.observe(value, labels);
    });
  const rows = (record: Record<string, bigint | number>, label: string): [number, Record<string, string>][] =>
    Object.entries(record).map(([name, value]) => [Number(value), { [label]: name }]);

  counter('detour_packets', 'packets by what became of them', () =>
    rows(readStats(gateway.counterMaps), 'verdict'),
  );
  counter('detour_drops', 'dropped packets by reason', () => rows(readDrops(gateway.counterMaps), 'reason'));
  counter('detour_port_packets', 'packets that entered, by port', () =>
    (gateway.core.running?.model.ports ?? []).map((port) => [
      Number(readPort(gateway.counterMaps, port.number).rxPackets),
      { port: port.name },
    ]),
  );
  counter('detour_node_packets', 'packets to and from service nodes', () =>
    nodesOf(gateway).flatMap((node): [number, Record<string, string>][] => {
      const row = readNode(gateway.counterMaps, node.number);
      return [
        [Number(row.toPackets), { node: node.label, direction: 'to' }],
        [Number(row.fromPackets), { node: node.label, direction: 'from' }],
      ];
    }),
  );
  counter(
    'detour_node_tcp_segments',
    'TCP segments with data, of one flow in 16, by whether they had been sent before',
    () =>
      nodesOf(gateway).flatMap((node): [number, Record<string, string>][] => {
        const row = readNode(gateway.counterMaps, node.number);
        return [
          [Number(row.segments - row.segmentsAgain), { node: node.label, kind: 'first' }],
          [Number(row.segmentsAgain), { node: node.label, kind: 'again' }],
        ];
      }),
  );
  gauge('detour_node_up', '1 when a node may get new flows', () =>
    nodesOf(gateway).map((node) => [
      gateway.health.viewOf(node).inForce === 'up' ? 1 : 0,
      { node: node.label },
    ]),
  );
  gauge('detour_flows', 'live flow records at the last sweep', () =>
    rows(
      {
        established: gateway.lastSweep?.flows ?? 0,
        embryonic: gateway.lastSweep?.embryos ?? 0,
        pinned: gateway.lastSweep?.pinned ?? 0,
      },
      'kind',
    ),
  );
  counter('detour_flow_log_lines', 'lines of the flow log, by event', () =>
    rows(gateway.flowLog?.lines ?? {}, 'event'),
  );
  counter('detour_flow_log_left_out', 'lines that the flow log left out, by what they were or why', () =>
    rows(gateway.flowLog?.leftOut ?? {}, 'what'),
  );
  gauge('detour_flows_limit', 'established flows that the table holds at most', () => [
    [gateway.flowMaps.flows.maxEntries, {}],
  ]);
  counter('detour_decisions', 'flows decided, by whom', () =>
    rows(
      {
        kernel: readStats(gateway.counterMaps).decided ?? 0n,
        controller: gateway.punts.counts.controller,
        redis: gateway.punts.counts.redis,
        'last-tables': gateway.punts.counts.lastTables,
      },
      'by',
    ),
  );
  counter('detour_held_packets', 'held packets by how they ended', () =>
    rows(gateway.injector.counts, 'end'),
  );
  counter('detour_too_big_packets', 'packets larger than their way takes, by what was done', () =>
    rows(gateway.desks.tooBig.counts, 'done'),
  );
  counter('detour_resets', 'RSTs to ends of TCP connections whose node is down, by what became of them', () =>
    rows(gateway.desks.resets.counts, 'done'),
  );
  counter(
    'detour_shared_snat',
    'bindings of SNAT addresses that gateways share, by what became of them',
    () => rows(gateway.desks.snatShare.counts, 'what'),
  );
  counter('detour_held_fragments', 'fragments that came before their first, by what became of them', () =>
    rows(gateway.desks.fragments.counts, 'end'),
  );
  counter('detour_outer_errors', 'ICMP errors to the underlay address, by what was made of them', () =>
    rows(gateway.desks.outerErrors.counts, 'done'),
  );
  gauge('detour_revision', 'intent revision in force', () => [
    [gateway.core.running?.model.revision ?? 0, {}],
  ]);
  counter('detour_node_reports', 'reports about nodes, by what became of them', () =>
    rows(measuring.counts, 'outcome'),
  );
  counter('detour_affinity', 'pins written to Redis, by what was done', () => rows(keeper.figures(), 'op'));
}

function nodesOf(gateway: Gateway): readonly AnyNode[] {
  const { running } = gateway.core;
  return running === null ? [] : everyNode(running.model);
}
