// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LOST_AFTER_US, PROBE_LEN_BYTES, ProbeLog, probeNumber } from './probe-log.js';
import { probeRows } from './probe-rows.js';

const bytes = () => new Uint8Array(PROBE_LEN_BYTES);

describe('ProbeLog', () => {
  it('measures each packet from its own transmission, also where the way takes longer than the interval between two', () => {
    const log = new ProbeLog();
    const first = log.stamp(bytes(), 0);
    const second = log.stamp(bytes(), 50_000);
    expect(log.came(first, 120_000)).toBe(120_000);
    expect(log.came(second, 170_500)).toBe(120_500);
    expect(log.take(180_000)).toEqual({ sent: 2, lost: 0, rttUs: 120_000 });
    expect(log.take(180_000)).toBeNull();
  });

  it('counts as lost what has not come after two seconds, once, and leaves to the next figures what is still on its way', () => {
    const log = new ProbeLog();
    const late = log.stamp(bytes(), 0);
    const second = log.stamp(bytes(), 1_000_000);
    expect(log.take(LOST_AFTER_US)).toBeNull();
    expect(log.take(LOST_AFTER_US + 1)).toEqual({ sent: 1, lost: 1, rttUs: null });
    expect(log.came(late, LOST_AFTER_US + 2)).toBeNull();
    expect(log.came(second, LOST_AFTER_US + 3)).toBe(1_000_003);
    expect(log.came(second, LOST_AFTER_US + 4)).toBeNull(); // a second copy
    expect(log.take(10_000_000)).toEqual({ sent: 1, lost: 0, rttUs: 1_000_003 });
  });

  it('does not wait for one that three later ones overtook, and forgives two that were swapped', () => {
    const log = new ProbeLog();
    const [lost = 0, late = 0, third = 0, fourth = 0] = [0, 1, 2, 3].map((ms) =>
      log.stamp(bytes(), ms * 1_000),
    );
    log.came(third, 5_000);
    expect(log.came(late, 6_000)).toBe(5_000);
    log.came(fourth, 7_000);
    expect(log.came(lost, 8_000)).toBeNull();
    expect(log.take(9_000)).toEqual({ sent: 4, lost: 1, rttUs: 3_000 });
  });

  it('says nothing of packets that were not sent, or were under way when the way went', () => {
    const log = new ProbeLog();
    log.unsent(log.stamp(bytes(), 0));
    const sent = log.stamp(bytes(), 0);
    log.forget();
    expect(log.came(sent, 10)).toBeNull();
    expect(log.take(9_000_000)).toBeNull();
  });

  it('settles every packet exactly once, whatever comes in which order', () => {
    const what = fc.record({ stepUs: fc.nat(900_000), comes: fc.option(fc.nat(40)), takes: fc.boolean() });
    fc.assert(
      fc.property(fc.array(what, { maxLength: 60 }), (steps) => {
        const log = new ProbeLog();
        let nowUs = 0;
        let came = 0;
        let settled = { sent: 0, lost: 0 };
        const add = (figures: ReturnType<ProbeLog['take']>) => {
          if (figures !== null)
            settled = { sent: settled.sent + figures.sent, lost: settled.lost + figures.lost };
        };
        for (const { stepUs, comes, takes } of steps) {
          nowUs += stepUs;
          const stamped = bytes();
          expect(log.stamp(stamped, nowUs)).toBe(probeNumber(stamped));
          if (comes !== null && log.came(comes, nowUs) !== null) came++;
          if (takes) add(log.take(nowUs));
        }
        add(log.take(nowUs + LOST_AFTER_US + 1));
        expect(settled).toEqual({ sent: steps.length, lost: steps.length - came });
      }),
    );
  });

  it('reads no number where none is', () => {
    expect(probeNumber(new Uint8Array(24))).toBe(0);
  });
});

describe('probeRows', () => {
  const row = { node: 'fw2', vrf: 'red', sent: 10, lost: 1, rttUs: 200.4 };

  it('adds up both directions through a pair, and waits for both', () => {
    const a = { ...row, end: 'a' as const };
    expect(probeRows([a, { ...row, end: 'b' as const, lost: 0 }])).toEqual([
      { node: 'fw2', vrf: 'red', sent: 20, lost: 1, rttUs: 401 },
    ]);
    expect(probeRows([a])).toEqual([]);
    expect(probeRows([a, { ...row, end: 'b' as const, rttUs: null }])).toEqual([
      { node: 'fw2', vrf: 'red', sent: 20, lost: 2 },
    ]);
  });

  it('takes an echo as it is', () => {
    expect(probeRows([{ ...row, end: null }])).toEqual([
      { node: 'fw2', vrf: 'red', sent: 10, lost: 1, rttUs: 200 },
    ]);
  });
});
