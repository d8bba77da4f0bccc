// SPDX-License-Identifier: Apache-2.0
// What an operator is told of pins: Redis is lost, late or refuses them, they could not be written for a while, or another gateway's have won.
import type { Affinity } from '@detour/affinity';
import type { AlarmBook } from '@detour/bus';
import type { Clock } from '@detour/core';

export interface PinAlarmsOptions {
  readonly affinity: Pick<Affinity, 'onConnectionChange' | 'onRefusalChange'>;
  readonly alarms: Pick<AlarmBook, 'raise' | 'clear'>;
  readonly clock: Clock;
}

/** How long pins may wait for Redis before that is an alarm. */
export const LAG_AFTER_MS = 10_000;
/** How long after the last conflict its alarm stays. */
export const CONFLICT_FOR_MS = 60_000;

export class PinAlarms implements Disposable {
  private failedSinceSweep = false;
  private behindSinceMs: number | null = null;
  private conflicts = 0;
  private forgetConflicts: () => void = () => {};
  private readonly offs: readonly (() => void)[];

  constructor(private readonly options: PinAlarmsOptions) {
    const { affinity, alarms } = options;
    this.offs = [
      affinity.onConnectionChange((connected, why) => {
        if (connected) alarms.clear('redis_unreachable', '');
        else
          alarms.raise(
            'redis_unreachable',
            '',
            `${why}: flows go on, new ones are decided without it and recorded once it is back`,
          );
      }),
      affinity.onRefusalChange((why) => {
        if (why === null) alarms.clear('redis_refuses', '');
        else
          alarms.raise(
            'redis_refuses',
            '',
            `Redis takes no pin: ${why}: flows go on, and are recorded once it takes them`,
          );
      }),
    ];
  }

  /** For how long every sweep has followed a write that failed. */
  get behindMs(): number {
    return this.behindSinceMs === null ? 0 : this.options.clock.monoMs() - this.behindSinceMs;
  }

  /** A pin could not be written or refreshed now. */
  notWritten(): void {
    this.failedSinceSweep = true;
  }

  /** After each sweep, with how many pins are not in Redis. */
  swept(unrecorded: number): void {
    const { alarms, clock } = this.options;
    const behind = this.failedSinceSweep;
    this.failedSinceSweep = false;
    if (!behind) {
      this.behindSinceMs = null;
      alarms.clear('pins_lag', '');
      return;
    }
    this.behindSinceMs ??= clock.monoMs();
    const forMs = this.behindMs;
    if (forMs >= LAG_AFTER_MS)
      alarms.raise(
        'pins_lag',
        '',
        `pins could not all be written to Redis for ${Math.round(forMs / 1_000)} s: ${unrecorded} of this gateway's are not there; if it dies now, those flows are decided anew`,
      );
  }

  /** Another gateway's pin has won over one of this gateway's: the flow has another path now. */
  conflict(): void {
    const { alarms, clock } = this.options;
    this.conflicts += 1;
    alarms.raise(
      'pins_conflict',
      '',
      `${this.conflicts} flows went another way here than at another gateway, whose pins won (higher generation, then lower path)`,
    );
    this.forgetConflicts();
    this.forgetConflicts = clock.after(CONFLICT_FOR_MS, () => {
      this.conflicts = 0;
      alarms.clear('pins_conflict', '');
    });
  }

  [Symbol.dispose](): void {
    for (const off of this.offs) off();
    this.forgetConflicts();
  }
}
