// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SNAT_LEAST_PORT, SnatPorts, type SnatUse, snatCandidates } from './snat-ports.js';

const REST_MS = 1_000;
const TCP: SnatUse = { vrf: 1, proto: 6, address: 1, remote: 2, remotePort: 443 };

function ports(limit = 1_000_000) {
  let now = 0;
  let seed = 1;
  const random = () => {
    seed = (seed * 16_807) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  const pool = new SnatPorts({ limit, restMs: REST_MS, nowMs: () => now, random });
  return { pool, pass: (ms: number) => (now += ms) };
}

describe('SnatPorts', () => {
  it("a flow keeps its own port where it is free and one of the range, and another flow's towards another end", () => {
    const { pool } = ports();
    expect(pool.take(TCP, 40_000)).toBe(40_000);
    expect(pool.take(TCP, 40_000)).not.toBe(40_000);
    for (const other of [{ remote: 3 }, { remotePort: 80 }, { address: 9 }, { vrf: 2 }, { proto: 17 }])
      expect(pool.take({ ...TCP, ...other }, 40_000)).toBe(40_000);
    expect(pool.take(TCP, 80)).toBeGreaterThanOrEqual(SNAT_LEAST_PORT);
  });

  it('an ICMP identifier may be any but 0; what has no ports has one flow towards each end', () => {
    const { pool } = ports();
    const icmp = { ...TCP, proto: 1, remotePort: 0 };
    expect([pool.take(icmp, 7), pool.take(icmp, 0), pool.take(icmp, 0)]).toEqual([7, 0, null]);
    const gre = { ...TCP, proto: 47, remotePort: 0 };
    expect([pool.take(gre, 0), pool.take(gre, 0), pool.take({ ...gre, remote: 3 }, 0)]).toEqual([0, null, 0]);
  });

  it('gives every port of one end away, then none, until one has rested', () => {
    const { pool, pass } = ports();
    const given = new Set<number>();
    const all = 65_536 - SNAT_LEAST_PORT;
    for (let i = 0; i < all; i++) given.add(pool.take(TCP, 40_000) ?? -1);
    expect([given.size, given.has(-1), Math.min(...given)]).toEqual([all, false, SNAT_LEAST_PORT]);
    expect(pool.take(TCP, 40_000)).toBeNull();
    expect(pool.take({ ...TCP, remote: 3 }, 40_000)).toBe(40_000);
    pool.release(TCP, 2_000);
    expect(pool.take(TCP, 40_000)).toBeNull();
    pass(REST_MS);
    expect(pool.take(TCP, 40_000)).toBe(2_000);
  });

  it('holds the limit over all ends, and adopts what a predecessor left', () => {
    const { pool } = ports(2);
    expect([pool.adopt(TCP, 5_000), pool.adopt(TCP, 5_000)]).toEqual([true, false]);
    expect(pool.take(TCP, 5_000)).not.toBe(5_000);
    expect([pool.take({ ...TCP, remote: 3 }, 1), pool.inUse]).toEqual([null, 2]);
  });

  it('never has two live flows on one binding, whatever is taken, given back and forgotten', () => {
    const step = fc.oneof(
      fc.record({
        kind: fc.constant('take' as const),
        end: fc.nat(2),
        own: fc.constantFrom(1, 2_000, 2_001, 65_535),
      }),
      fc.record({ kind: fc.constant('release' as const), at: fc.nat(50) }),
      fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(2 * REST_MS) }),
      fc.record({ kind: fc.constant('expire' as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.constantFrom(6, 17, 1, 47), (steps, proto) => {
        const { pool, pass } = ports();
        let now = 0;
        const live: { use: SnatUse; port: number }[] = [];
        const rested = new Map<string, number>();
        const idOf = (use: SnatUse, port: number) => `${use.remote} ${port}`;
        for (const one of steps) {
          if (one.kind === 'pass') {
            now += one.ms;
            pass(one.ms);
          } else if (one.kind === 'expire') pool.expire();
          else if (one.kind === 'release') {
            const [gone] = live.splice(one.at, 1);
            if (gone === undefined) continue;
            pool.release(gone.use, gone.port);
            rested.set(idOf(gone.use, gone.port), now);
          } else {
            const use = { ...TCP, proto, remote: one.end };
            const port = pool.take(use, one.own);
            if (port === null) continue;
            expect(live.some((other) => idOf(other.use, other.port) === idOf(use, port))).toBe(false);
            expect(now - (rested.get(idOf(use, port)) ?? Number.NEGATIVE_INFINITY)).toBeGreaterThanOrEqual(
              REST_MS,
            );
            live.push({ use, port });
          }
        }
        expect(pool.inUse).toBe(live.length);
      }),
    );
  });
});

describe('snatCandidates', () => {
  it('its own port first, if it is one of the range, then others by chance: the same each time, none twice', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 6, 17),
        fc.integer({ min: 1, max: 65_535 }),
        fc.nat(0xffffffff),
        (proto, own, chance) => {
          const ports = snatCandidates(proto, own, chance);
          expect(snatCandidates(proto, own, chance)).toEqual(ports);
          const least = proto === 1 ? 1 : SNAT_LEAST_PORT;
          expect(ports.every((port) => port >= least && port <= 65_535)).toBe(true);
          expect(new Set(ports).size).toBe(16);
          if (own >= least) expect(ports[0]).toBe(own);
        },
      ),
    );
    expect(snatCandidates(6, 40_000, 1)[1]).not.toBe(snatCandidates(6, 40_000, 2)[1]);
  });

  it('what has no ports has one', () => {
    expect([snatCandidates(47, 0, 7), snatCandidates(1, 0, 7)]).toEqual([[0], [0]]);
  });
});
