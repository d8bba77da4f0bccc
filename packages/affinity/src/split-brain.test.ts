// SPDX-License-Identifier: Apache-2.0
// Gateways that are cut off from Redis, and so from each other, while the same flow begins, is moved and is spoken of on both sides: random
// histories with the real calls on a real Redis. Once all meet, one record is left, everywhere, and it is the one that the written rule names.
import { decodeFlowRecord, type FlowRecord } from '@detour/contracts';
import { silentLog } from '@detour/core';
import { type RedisServer, startRedis, until } from '@detour/testkit';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Affinity, openAffinity } from './affinity.js';
import { granted } from './testdata.js';
import { settlePin, winnerOf } from './winner.js';

const GATEWAYS = 3;
const TTL_S = 60;
let server: RedisServer;
let plain: Redis;
let affinities: Affinity[];

beforeAll(async () => {
  server = await startRedis();
  plain = new Redis({ path: server.url.slice('unix:'.length) });
  affinities = Array.from({ length: GATEWAYS }, () =>
    openAffinity({ url: server.url, log: silentLog, budgetMs: 5_000 }),
  );
  await until(() => affinities.every(({ connected }) => connected));
});
afterAll(async () => {
  plain.disconnect();
  for (const affinity of affinities) await affinity[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** A gateway's record of one flow, and what it does about Redis: as services/tunnel-gw/src/pin-keeper.ts. */
class Side {
  record: FlowRecord | null = null;
  isRecorded = false;
  isCut = false;
  readonly down = new Set<number>();

  constructor(
    private readonly affinity: Affinity,
    private readonly key: string,
  ) {}

  async begin(path: number, alone: boolean): Promise<void> {
    if (this.record !== null) return;
    this.record = { gen: alone ? 2 : 1, path, chain: 2, initiatorIsB: false };
    this.isRecorded = false;
    if (!alone) await this.sweep();
  }

  async change(change: Pick<FlowRecord, 'path'> | { programmed: 'allow' | 'drop' }): Promise<void> {
    if (this.record === null) return;
    const before = this.record.gen;
    this.record = { ...this.record, ...change, gen: before + 1 };
    this.isRecorded = false;
    if (!this.isCut) await this.write(this.record, before);
  }

  async sweep(): Promise<void> {
    if (this.record === null || this.isCut) return;
    if (this.isRecorded) {
      const { held, missing } = await this.affinity.refresh([{ key: this.key, ttlS: TTL_S }]);
      if (missing.length > 0) this.isRecorded = false;
      const other = held.get(this.key);
      if (other !== undefined) await this.settle(other);
      return;
    }
    const [answer] = await this.affinity.lookOrCreate([{ key: this.key, record: this.record, ttlS: TTL_S }]);
    const { record, created } = granted(answer);
    if (created) this.isRecorded = true;
    else await this.settle(record);
  }

  private async settle(held: FlowRecord): Promise<void> {
    if (this.record === null) return;
    const found = settlePin(this.record, held, { usable: !this.down.has(held.path), beganHere: false });
    if (found.kind === 'write') return this.write(found.record, found.expectedGen);
    if (found.kind === 'adopt') this.record = found.record;
    this.isRecorded = true;
  }

  private async write(record: FlowRecord, expectedGen: number): Promise<void> {
    this.record = record;
    const now = granted(await this.affinity.repin({ key: this.key, record, ttlS: TTL_S, expectedGen }));
    if (now.written) this.isRecorded = true;
    else await this.settle(now.record);
  }
}

type Step =
  | { readonly do: 'begin'; readonly at: number; readonly path: number; readonly alone: boolean }
  | { readonly do: 'move'; readonly at: number; readonly path: number }
  | { readonly do: 'say'; readonly at: number; readonly programmed: 'allow' | 'drop' }
  | { readonly do: 'cut' | 'mend' | 'sweep'; readonly at: number }
  | { readonly do: 'down' | 'up'; readonly at: number; readonly path: number }
  | { readonly do: 'empty' };

const at = fc.nat(GATEWAYS - 1);
const path = fc.integer({ min: 1, max: 3 });
const usual: fc.Arbitrary<Step>[] = [
  fc.record({ do: fc.constant('begin' as const), at, path, alone: fc.boolean() }),
  fc.record({ do: fc.constant('move' as const), at, path }),
  fc.record({
    do: fc.constant('say' as const),
    at,
    programmed: fc.constantFrom('allow' as const, 'drop' as const),
  }),
  fc.record({ do: fc.constantFrom('cut' as const, 'mend' as const, 'sweep' as const), at }),
];
const emptied = fc.constant<Step>({ do: 'empty' });
const health = fc.record({ do: fc.constantFrom('down' as const, 'up' as const), at, path });
let flows = 0;

async function live(
  steps: readonly Step[],
): Promise<{ sides: Side[]; held: () => Promise<FlowRecord | null> }> {
  const key = `flow-${flows++}`;
  const sides = affinities.map((affinity) => new Side(affinity, key));
  const held = async () => decodeFlowRecord((await plain.get(key)) ?? '');
  for (const step of steps) {
    const before = await held();
    if (step.do === 'empty') {
      await plain.unlink(key);
      continue;
    }
    const side = sides[step.at] ?? expect.fail();
    if (step.do === 'begin') await side.begin(step.path, step.alone || side.isCut);
    else if (step.do === 'move') await side.change({ path: step.path });
    else if (step.do === 'say') await side.change({ programmed: step.programmed });
    else if (step.do === 'sweep') await side.sweep();
    else if (step.do === 'down') side.down.add(step.path);
    else if (step.do === 'up') side.down.delete(step.path);
    else side.isCut = step.do === 'cut';
    const after = await held();
    // What Redis holds only ever gives way to what wins over it
    if (before !== null) expect(winnerOf(after ?? expect.fail(), before)).toEqual(after);
  }
  return { sides, held };
}

/** All are there again, and sweep side by side, until nothing changes. */
async function meet(sides: readonly Side[]): Promise<void> {
  for (const side of sides) {
    side.isCut = false;
    side.down.clear();
  }
  for (let round = 0; round < 2 * GATEWAYS; round++) await Promise.all(sides.map((side) => side.sweep()));
}

it('once gateways meet that were cut off, what the rule names is left, in Redis and at all of them', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(...usual, emptied), { minLength: 1, maxLength: 30 }),
      async (steps) => {
        const { sides, held } = await live(steps);
        const stored = await held();
        const all = [...sides.map(({ record }) => record), stored].filter((one) => one !== null);
        await meet(sides);
        const left = sides.map(({ record }) => record).filter((one) => one !== null);
        if (left.length === 0) return;
        const winner = all.reduce(winnerOf);
        expect(left).toEqual(left.map(() => winner));
        expect(await held()).toEqual(winner);
        expect(sides.every(({ record, isRecorded }) => record === null || isRecorded)).toBe(true);
      },
    ),
    { numRuns: 400 },
  );
}, 120_000);

it('and where paths are down at one and not at another, they agree once all are up', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(...usual, health), { minLength: 1, maxLength: 30 }), async (steps) => {
      const { sides, held } = await live(steps);
      await meet(sides);
      const left = sides.map(({ record }) => record).filter((one) => one !== null);
      const now = await held();
      expect(left).toEqual(left.map(() => now));
    }),
    { numRuns: 300 },
  );
}, 120_000);
