// SPDX-License-Identifier: Apache-2.0
// What was measured through nodes, as rows for tunnel-gw: that of a session with both ends here is one row, for both directions.
import type { NodeProbe } from '@detour/contracts';
import type { MeasuredRow } from './loop-messages.js';

export function probeRows(rows: readonly MeasuredRow[]): NodeProbe[] {
  const ends = new Map<string, MeasuredRow>();
  const probes: NodeProbe[] = [];
  for (const row of rows) {
    if (row.end === null) {
      probes.push(probeOf(row, row));
      continue;
    }
    const key = `${row.node}/${row.vrf}`;
    const other = ends.get(key);
    ends.set(key, row);
    // One direction alone measures half a way.
    if (other !== undefined)
      probes.push(
        probeOf(row, {
          sent: row.sent + other.sent,
          lost: row.lost + other.lost,
          rttUs: row.rttUs === null || other.rttUs === null ? null : row.rttUs + other.rttUs,
        }),
      );
  }
  return probes;
}

function probeOf(
  { node, vrf }: MeasuredRow,
  { sent, lost, rttUs }: Pick<MeasuredRow, 'sent' | 'lost' | 'rttUs'>,
): NodeProbe {
  return { node, vrf, sent, lost, ...(rttUs !== null && { rttUs: Math.round(rttUs) }) };
}
