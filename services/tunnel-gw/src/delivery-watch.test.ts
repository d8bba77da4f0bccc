// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { DeliveryWatch, parseSentPackets, silentText } from './delivery-watch.js';

const at = (handed: number, sent: number, ifindex = 3) => [
  { device: 'eth1', ifindex, handed: BigInt(handed), sent: BigInt(sent) },
];

describe('DeliveryWatch', () => {
  it('finds a device that was handed enough and sent less than half', () => {
    const watch = new DeliveryWatch();
    expect(watch.look(at(1_000, 500))).toEqual([]); // what was before is not judged
    expect(watch.look(at(1_016, 507))).toEqual([{ device: 'eth1', handed: 16n, sent: 7n }]);
    expect(watch.look(at(1_017, 507))).toHaveLength(1); // too few for another verdict
    expect(watch.look(at(1_032, 515))).toEqual([]); // half is not silence
  });
  it('says nothing of few frames, however few were sent; they are judged with the next', () => {
    const watch = new DeliveryWatch();
    watch.look(at(0, 0));
    expect(watch.look(at(15, 0))).toEqual([]);
    expect(watch.look(at(16, 0))).toHaveLength(1);
  });
  it('forgets a device that went away, or that is another by the same name, or whose counters began anew', () => {
    for (const next of [[], at(0, 0, 4), at(5, 0)]) {
      const watch = new DeliveryWatch();
      watch.look(at(10, 0));
      expect(watch.look(at(100, 0))).toHaveLength(1);
      expect(watch.look(next)).toEqual([]);
    }
  });
  it("the kernel's own frames count for the device: it delivers", () => {
    const watch = new DeliveryWatch();
    watch.look(at(0, 0));
    expect(watch.look(at(20, 4_000))).toEqual([]);
  });
});

describe('parseSentPackets', () => {
  it('reads the tenth number of each line', () => {
    const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
eth0.5: 6289     47    0    0    0     0          0         0     5107      45    0    0    0     0       0          0
`;
    expect(parseSentPackets(text)).toEqual(
      new Map([
        ['lo', 0n],
        ['eth0.5', 45n],
      ]),
    );
    expect(parseSentPackets('')).toEqual(new Map());
  });
});

describe('silentText', () => {
  it('names port, device, both numbers and the remedy', () => {
    expect(silentText('outside', { device: 'eth2', handed: 40n, sent: 1n })).toMatch(
      /^port outside: 40 frames were handed to eth2, which says that it sent 1: .*attachMode: generic.*ethtool -S eth2$/,
    );
  });
});
