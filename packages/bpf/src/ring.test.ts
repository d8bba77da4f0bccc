// SPDX-License-Identifier: Apache-2.0
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, describe, expect, it } from 'vitest';
import { type BpfProgram, openObject, openRing, progTestRun, progTestRunAsync } from './index.js';
import { compileTestObjects } from './testdata.js';

const objects = compileTestObjects('basic');
const object = openObject(objects.object('basic'));
const events = object.map('events');
const report = object.program('report');
afterAll(() => {
  object.close();
  objects[Symbol.dispose]();
});

/** Makes the program report `count` records; returns how many found no room. */
function produce(program: BpfProgram, count: number, discardThirds = false): number {
  const frame = new Uint8Array(64);
  frame[0] = count;
  frame[1] = discardThirds ? 1 : 0;
  return progTestRun(program, { data: frame }).retval;
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const gc: unknown = runInNewContext('gc');
  if (typeof gc !== 'function') throw new Error('no gc');
  gc();
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within 5 s: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('openRing', () => {
  it('hands out records in order, whole, on the event loop', async () => {
    const seen: { seq: number; len: number; fill: number[] }[] = [];
    using ring = openRing(events, (record) => {
      const view = new DataView(record.buffer, record.byteOffset, record.length);
      seen.push({
        seq: view.getUint32(0, true),
        len: view.getUint32(4, true),
        fill: [...record.subarray(8)],
      });
    });
    expect(produce(report, 3)).toBe(0);
    await until(() => seen.length === 3, '3 records');
    expect(seen[2]).toEqual({ seq: 2, len: 64, fill: new Array(24).fill(2) });
    expect(ring.records).toBe(3);
  });

  it('skips discarded records', async () => {
    const seen: number[] = [];
    using ring = openRing(events, (record) => seen.push(record[0] ?? -1));
    produce(report, 6, true);
    await until(() => seen.length === 4, '4 of 6 records');
    expect(seen).toEqual([0, 1, 3, 4]);
    expect(ring.read()).toBe(0);
  });

  it('survives many turns round the ring: every record, in order, none twice', async () => {
    let next = 0;
    let wrong = 0;
    using ring = openRing(events, (record) => {
      if (record[0] !== next % 250 || record.length !== 32) wrong++;
      next++;
    });
    for (let i = 0; i < 200; i++) {
      expect(produce(report, 250)).toBe(0);
      await until(() => next === (i + 1) * 250, `${(i + 1) * 250} records`);
    }
    expect({ wrong, records: ring.records }).toEqual({ wrong: 0, records: 50_000 }); // 2 MB through 64 KiB
  });

  it('is bounded per wake and lets the event loop turn between', async () => {
    let inTurn = 0;
    let most = 0;
    let total = 0;
    using _ring = openRing(
      events,
      () => {
        inTurn++;
        total++;
        most = Math.max(most, inTurn);
        if (inTurn === 1)
          setImmediate(() => {
            inTurn = 0;
          });
      },
      { maxPerWake: 10 },
    );
    produce(report, 95);
    await until(() => total === 95, '95 records');
    expect(most).toBe(10);
  });

  it('loses no wake-up while records come from another thread', async () => {
    let seen = 0;
    using _ring = openRing(events, () => {
      seen++;
    });
    const frame = new Uint8Array(64);
    frame[0] = 1;
    let lost = 0;
    for (let i = 0; i < 500; i++) {
      const before = seen;
      const { retval } = await progTestRunAsync(report, { data: frame });
      lost += retval;
      await until(() => seen === before + 1, `record ${i}`);
    }
    expect(lost).toBe(0);
  });

  it('leaves what it did not read to the next reader', () => {
    {
      const ring = openRing(events, () => ring.close());
      produce(report, 5);
      ring.read();
    }
    const seen: (number | undefined)[] = [];
    using ring = openRing(events, (record) => seen.push(record[0]));
    ring.read();
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  it('counts a record as read when its handler throws', () => {
    let throws = true;
    const seen: (number | undefined)[] = [];
    using ring = openRing(events, (record) => {
      if (throws) throw new Error('handler');
      seen.push(record[0]);
    });
    produce(report, 2);
    expect(() => ring.read()).toThrow('handler');
    throws = false;
    expect(ring.read()).toBe(1);
    expect(seen).toEqual([1]);
  });

  it('reports a full ring to the program, and goes on', () => {
    let lost = 0;
    for (let i = 0; i < 10; i++) lost += produce(report, 250);
    expect(lost).toBe(2500 - Math.floor(65536 / 40));
    using ring = openRing(events, () => {});
    expect(ring.read(10_000)).toBe(2500 - lost);
    expect(produce(report, 1)).toBe(0);
    expect(ring.read()).toBe(1);
  });

  it('goes on when nobody keeps the ring, and garbage was collected', async () => {
    let seen = 0;
    const stops: (() => void)[] = [];
    (() => {
      const ring = openRing(events, () => {
        seen++;
      });
      const weak = new WeakRef(ring);
      stops.push(() => weak.deref()?.close());
    })();
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
    produce(report, 5);
    await until(() => seen === 5, '5 records after a collection');
    for (const stop of stops) stop();
  });

  it('refuses another kind of map', () => {
    expect(() => openRing(object.map('table'), () => {})).toThrow(/map table is no ring buffer/);
  });
});
