// SPDX-License-Identifier: Apache-2.0
// The drain of a gateway, by its key on a real NATS server; pins, counters and time are turned by hand.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openState, type State, type StateMirror } from '@detour/bus';
import { type DrainValue, stateKey } from '@detour/contracts';
import { type ManualClock, manualClock, silentLog } from '@detour/core';
import { startTestBus, type TestBus, until } from '@detour/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { GatewayDrain } from './gateway-drain.js';
import type { SweepResult } from './sweeper.js';

let nats: TestBus;
let state: State;
let mirror: StateMirror;
let clock: ManualClock;
let dir: string;
let drain: GatewayDrain;
interface Outcome {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

function outcome(): Outcome {
  const made = { resolve: () => {}, reject: (_: unknown) => {} };
  const promise = new Promise<void>((resolve, reject) => Object.assign(made, { resolve, reject }));
  promise.catch(() => {}); // some tests never end it
  return { promise, resolve: () => made.resolve(), reject: (error) => made.reject(error) };
}

/** What the gateway is made to see. */
let seen: {
  arrivals: bigint | null;
  sweep: Pick<SweepResult, 'beganMs' | 'quietMs'> | null;
  recorded: Outcome;
  changes: string[];
};

beforeAll(async () => {
  nats = await startTestBus();
  state = openState(nats.connect());
  mirror = state.watch();
  await mirror.caughtUp;
});
afterAll(async () => {
  await mirror[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
});
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'detour-drain-'));
  clock = manualClock();
  seen = { arrivals: 100n, sweep: null, recorded: outcome(), changes: [] };
  drain = open();
  drain.start(() => seen.changes.push(drain.withhold));
});
afterEach(async () => {
  await put(false);
  await drain[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

/** `epoch` '': NATS has not answered. */
function open(bucket: Pick<StateMirror, 'epoch' | 'get' | 'onChange'> = mirror): GatewayDrain {
  return new GatewayDrain({
    ...{ gateway: 'edge1', runDir: dir, mirror: bucket, clock, log: silentLog },
    recordPins: (onLeft, signal) => {
      onLeft(7);
      signal.addEventListener('abort', () => seen.recorded.reject(signal.reason));
      return seen.recorded.promise;
    },
    readArrivals: () => seen.arrivals,
    lastSweep: () => seen.sweep,
  });
}

async function put(draining: boolean): Promise<void> {
  const value: DrainValue = { draining, by: 'ann', atMs: 1 };
  await state.put(stateKey.gatewayDrain('edge1'), value);
  const held = () => mirror.get(stateKey.gatewayDrain('edge1'))?.value as DrainValue | undefined;
  await until(() => held()?.draining === draining);
}

async function drained(): Promise<void> {
  await put(true);
  seen.recorded.resolve();
  await until(() => drain.withhold !== '');
}

describe('GatewayDrain', () => {
  it('is no drain until one is asked for, and none of another gateway', async () => {
    await state.put(stateKey.gatewayDrain('edge2'), { draining: true, by: 'ann', atMs: 1 });
    await until(() => mirror.get(stateKey.gatewayDrain('edge2')) !== null);
    expect([drain.withhold, drain.status(), seen.changes]).toEqual(['', undefined, []]);
  });

  it('withholds the gateway when all pins are recorded, and not before', async () => {
    await put(true);
    await until(() => drain.status() !== undefined);
    expect(drain.status()).toMatchObject({ by: 'ann', recording: true, unrecorded: 7n });
    expect([drain.withhold, seen.changes]).toEqual(['', []]);
    seen.recorded.resolve();
    await until(() => seen.changes.length > 0);
    expect(seen.changes).toEqual(['drained by ann']);
    expect(drain.status()).toMatchObject({ recording: false, unrecorded: 0n });
  });

  it('ends at once when it is taken back, also while pins are recorded', async () => {
    await put(true);
    await until(() => drain.status() !== undefined);
    await put(false);
    await until(() => drain.status() === undefined);
    await expect(seen.recorded.promise).rejects.toThrow();
    seen.recorded = outcome();
    await drained();
    await put(false);
    await until(() => drain.withhold === '');
    expect(seen.changes.slice(-2)).toEqual(['drained by ann', '']);
  });

  it('records them again when that failed', async () => {
    await put(true);
    await until(() => drain.status() !== undefined);
    const failed = seen.recorded;
    seen.recorded = outcome();
    failed.reject(new Error('no memory'));
    await expect(failed.promise).rejects.toThrow();
    seen.recorded.resolve();
    await until(() => {
      clock.advance(1_000);
      return drain.withhold !== '';
    });
  });

  it('counts what arrives since, and says how long nothing has', async () => {
    await drained();
    clock.advance(500);
    seen.arrivals = 104n;
    clock.advance(100);
    clock.advance(900);
    seen.sweep = { beganMs: clock.monoMs(), quietMs: 5_000 };
    expect(drain.status()).toMatchObject({ arrived: 4n, quietMs: 900n });
  });

  it('is not quiet where a flow had a packet, by whichever port it came, nor before a sweep has looked', async () => {
    await drained();
    clock.advance(5_000);
    expect(drain.status()).toMatchObject({ arrived: 0n, quietMs: 0n });
    seen.sweep = { beganMs: clock.monoMs() - 1_000, quietMs: 300 };
    expect(drain.status()).toMatchObject({ quietMs: 300n });
    seen.sweep = { beganMs: clock.monoMs() - 1_000, quietMs: Number.POSITIVE_INFINITY };
    expect(drain.status()).toMatchObject({ quietMs: 4_000n });
  });

  it('does not take what was counted before a successor knew its ports for arrivals', async () => {
    await drained();
    await drain[Symbol.asyncDispose]();
    seen.arrivals = null;
    drain = open();
    clock.advance(200);
    seen.arrivals = 1_000n;
    clock.advance(100);
    seen.arrivals = 1_003n;
    expect(drain.status()).toMatchObject({ arrived: 3n });
  });

  it('a successor withholds it before NATS has answered, and follows the bucket then', async () => {
    await drained();
    await drain[Symbol.asyncDispose]();
    const silent = { epoch: '', get: () => null, onChange: () => () => {} };
    drain = open(silent);
    expect(drain.withhold).toBe('drained by ann');
    await drain[Symbol.asyncDispose]();
    await put(false);
    drain = open();
    drain.start(() => seen.changes.push(drain.withhold));
    expect([drain.withhold, seen.changes.at(-1)]).toEqual(['', '']);
    await drain[Symbol.asyncDispose]();
    drain = open(silent);
    expect(drain.withhold).toBe(''); // the copy has gone with it
  });
});
