// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { UdpTally } from './udp-tally.js';

/** Sends `count` packets a millisecond apart, receives `order`. */
function tally(count: number, order: readonly number[]): UdpTally {
  const all = new UdpTally();
  for (let i = 0; i < count; i += 1) all.send(100 + i);
  for (const sequence of order) all.receive(sequence, 0);
  return all;
}

describe('UdpTally', () => {
  it('finds nothing wrong with a stream that came back whole', () => {
    expect(tally(3, [0, 1, 2]).report()).toEqual({
      sent: 3,
      received: 3,
      lost: 0,
      duplicated: 0,
      reordered: 0,
      outages: [],
    });
  });

  it('tells loss, duplication and reordering apart', () => {
    expect(tally(6, [0, 3, 2, 2, 5]).report()).toMatchObject({
      received: 4,
      lost: 2,
      duplicated: 1,
      reordered: 1,
    });
  });

  it('measures an outage from the last packet that came back to the first one after it', () => {
    expect(tally(10, [0, 1, 5, 6, 7, 9]).report().outages).toEqual([
      { lost: 3, startMs: 101, lenMs: 4 },
      { lost: 1, startMs: 107, lenMs: 2 },
    ]);
  });

  it('counts an outage that has not ended up to the last packet sent', () => {
    expect(tally(5, [0, 1]).report().outages).toEqual([{ lost: 3, startMs: 101, lenMs: 3 }]);
    expect(tally(2, []).report()).toMatchObject({ lost: 2, outages: [{ lost: 2, startMs: 100, lenMs: 1 }] });
  });

  it('orders by flow, and believes no number that was never sent', () => {
    const all = tally(4, []);
    all.receive(3, 1);
    all.receive(2, 2);
    all.receive(99, 1);
    expect(all.report()).toMatchObject({ received: 2, reordered: 0, lost: 2 });
  });
});
