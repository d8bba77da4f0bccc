// SPDX-License-Identifier: Apache-2.0
// What Prometheus sees of the sessions; read from the timing thread whenever somebody scrapes.

import type { Attributes, Meter } from '@opentelemetry/api';
import type { SessionEvent, SessionList } from './engine.js';
import { describeDiag } from './health.js';
import type { SessionRow } from './loop-messages.js';

/** Counts what happens between scrapes. */
export interface BfdMetrics {
  /** A probe changed its state. */
  readonly transition: (event: SessionEvent) => void;
}

/** Sessions with routers are no nodes' (`router-sessions.ts`). */
const labels = ({ spec }: SessionRow): Attributes =>
  spec.node === '' ? { router: spec.peer } : { node: spec.node, vrf: spec.vrf };

export interface MetricSources {
  readonly list: () => Promise<SessionList>;
  /** Whether routers are told to send traffic here. */
  readonly isAnnounced: () => boolean;
}

/** Registers all instruments; the sources are asked at every collection. */
export function bfdMetrics({ list, isAnnounced }: MetricSources, meter: Meter): BfdMetrics {
  meter
    .createObservableGauge('detour_bfd_announced', {
      description: '1 while the routing daemon is told that routers may send traffic here',
    })
    .addCallback((result) => result.observe(isAnnounced() ? 1 : 0));
  const up = meter.createObservableGauge('detour_bfd_node_up', {
    description: '1 when control session and echo (where asked for) are up',
  });
  const controlUp = meter.createObservableGauge('detour_bfd_control_up', {
    description: '1 when the control session is Up (RFC 5880)',
  });
  const echoUp = meter.createObservableGauge('detour_bfd_echo_up', {
    description: '1 when packets to ourselves come back through the node (RFC 9747)',
  });
  const rtt = meter.createObservableGauge('detour_bfd_echo_rtt_seconds', {
    description: 'Time of the latest packet to ourselves through the node',
  });
  const detect = meter.createObservableGauge('detour_bfd_detect_time_seconds', {
    description: 'Silence of the peer after which the control session is down',
  });
  const packets = meter.createObservableCounter('detour_bfd_packets', {
    description: 'Packets sent and received, by probe',
  });
  const sendErrors = meter.createObservableCounter('detour_bfd_send_errors', {
    description: 'Packets that the kernel did not take',
  });
  const downs = meter.createObservableCounter('detour_bfd_node_downs', {
    description: 'How often a node left up',
  });
  const refused = meter.createObservableCounter('detour_bfd_refused_packets', {
    description: 'Received packets that no session took, by the rule that refused them',
  });
  meter.addBatchObservableCallback(
    async (result) => {
      const listed = await list();
      for (const row of listed.rows) {
        const of = labels(row);
        if (row.spec.node !== '') {
          result.observe(up, row.health.state === 'up' ? 1 : 0, of);
          result.observe(downs, row.downs, of);
        }
        result.observe(controlUp, row.state === 'up' ? 1 : 0, of);
        result.observe(detect, row.detectTimeUs / 1e6, of);
        result.observe(packets, row.packetsIn, { ...of, probe: 'control', direction: 'in' });
        result.observe(packets, row.packetsOut, { ...of, probe: 'control', direction: 'out' });
        result.observe(sendErrors, row.sendErrors, of);
        if (row.echoState === null) continue;
        result.observe(echoUp, row.echoState === 'up' ? 1 : 0, of);
        result.observe(packets, row.echoIn, { ...of, probe: 'echo', direction: 'in' });
        result.observe(packets, row.echoOut, { ...of, probe: 'echo', direction: 'out' });
        if (row.echoRttUs !== null) result.observe(rtt, row.echoRttUs / 1e6, of);
      }
      for (const [why, count] of Object.entries(listed.refused)) result.observe(refused, count, { why });
    },
    [up, controlUp, echoUp, rtt, detect, packets, sendErrors, downs, refused],
  );
  const transitions = meter.createCounter('detour_bfd_transitions', {
    description: 'Changes of state of a probe, with the diagnostic',
  });
  return {
    transition: ({ id, probe, from, to, diag }) =>
      transitions.add(1, { session: id, probe, from, to, diag: describeDiag(diag) }),
  };
}
