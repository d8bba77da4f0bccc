// SPDX-License-Identifier: Apache-2.0
// Whether the table of established flows is nearly full, or something has found no room in it.

export interface FlowRoom {
  readonly flows: number;
  readonly limit: number;
  /** Packets, promotions and counter rows that found no room, since the maps were made. */
  readonly refused: number;
}

/** It has to fall this far below the threshold, in percent of the table, before the alarm is over. */
const FALL = 10;
/** How long it stays after something found no room. */
const REFUSED_FOR_MS = 60_000;

export class FlowPressure {
  private raised = false;
  private refused: number | null = null;
  private refusedAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    /** Percent of the table. */
    private readonly alarmAt: number,
    private readonly monoMs: () => number,
  ) {}

  /** After each sweep: what an operator is to know of it, or null. */
  look({ flows, limit, refused }: FlowRoom): string | null {
    const nowMs = this.monoMs();
    const percent = Math.floor((flows / limit) * 100);
    // What a predecessor had refused is no news.
    if (this.refused !== null && refused > this.refused) this.refusedAtMs = nowMs;
    this.refused = refused;
    const refusing = nowMs - this.refusedAtMs < REFUSED_FOR_MS;
    this.raised = refusing || percent >= this.alarmAt - (this.raised ? FALL : 0);
    if (!this.raised) return null;
    const found = refusing ? `; so far ${refused} packets and flows found no room` : '';
    return `established flows take ${percent} % of their table of ${limit}${found}: a new flow without room is dropped as conn_full, none passes unserviced; raise DETOUR_MAX_FLOWS`;
  }
}
