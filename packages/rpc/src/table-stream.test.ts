// SPDX-License-Identifier: Apache-2.0
// Publisher and receiver over a real server, with tables of rules.
import { createHash } from 'node:crypto';
import {
  ClassifierClient,
  ClassifierService,
  RuleRow,
  type RuleUpdate,
  type TableVersion,
} from '@detour/contracts';
import { silentLog } from '@detour/core';
import { until } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { openStream } from './client.js';
import { implement, serve } from './serve.js';
import { TablePublisher, type TablePublisherSpec } from './table-publisher.js';
import { type AppliedTable, TableStream, type TableStreamSpec } from './table-stream.js';
import { mayFollow } from './table-update.js';

const bytesOf = (row: RuleRow) => Buffer.from(RuleRow.encode(row).finish());
const digest = (rows: readonly RuleRow[]): Uint8Array => {
  const hash = createHash('sha256');
  for (const row of rows) hash.update(bytesOf(row));
  return hash.digest();
};
const diff = (before: readonly RuleRow[], after: readonly RuleRow[]) => {
  const old = new Map(before.map((row) => [row.number, bytesOf(row)]));
  const upserts = after.filter((row) => old.get(row.number)?.equals(bytesOf(row)) !== true);
  const kept = new Set(after.map((row) => row.number));
  return { upserts, removes: [...old.keys()].filter((number) => !kept.has(number)) };
};
const rule = (number: number, name = `r${number}`) => RuleRow.create({ number, name });
const version = (sequence: number, epoch = 'e1'): TableVersion => ({
  epoch,
  sequence: BigInt(sequence),
  revision: 1,
});

async function publish(
  overrides: Partial<TablePublisherSpec<RuleRow>> = {},
  corrupt = (update: RuleUpdate) => update,
) {
  const heard: string[] = [];
  const publisher = new TablePublisher<RuleRow>({
    name: 'rules',
    diff,
    digest,
    log: silentLog,
    onAck: (gateway, { sequence }) => heard.push(`${gateway} ack ${sequence}`),
    onNack: (gateway, { sequence }, row, why) => heard.push(`${gateway} nack ${sequence} ${row}: ${why}`),
    ...overrides,
  });
  const server = await serve({
    address: '127.0.0.1:0',
    log: silentLog,
    services: [
      implement(ClassifierService, {
        classify: (call) => call.end(),
        watchRules: (call) => {
          const write = call.write.bind(call);
          call.write = ((update: RuleUpdate) => write(corrupt(update))) as typeof call.write;
          publisher.handler(call);
        },
      }),
    ],
  });
  return {
    publisher,
    heard,
    address: server.address,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

function subscribe(instances: () => readonly string[], overrides: Partial<TableStreamSpec<RuleRow>> = {}) {
  const applied: AppliedTable<RuleRow>[] = [];
  const stream = new TableStream<RuleRow>({
    name: 'rules',
    key: 'edge1',
    gateway: 'edge1',
    instances,
    open: (address) => openStream(ClassifierClient, address, (client) => client.watchRules()),
    digest,
    apply: (table) => {
      applied.push(table);
      return { ok: true };
    },
    log: silentLog,
    ...overrides,
  });
  const names = () => stream.rows.map((row) => row.name);
  return Object.assign(stream, { applied, names });
}

describe('mayFollow', () => {
  const update = (sequence: number, full: boolean, epoch = 'e1') => ({
    version: version(sequence, epoch),
    full,
    upserts: [],
    removes: [],
    digest: new Uint8Array(),
  });
  it.each([
    ['a difference first', null, update(1, false), false],
    ['a full table first', null, update(1, true), true],
    ['a later difference', version(5), update(6, false), true],
    ['the same sequence again', version(5), update(5, true), true],
    ['a lower sequence', version(5), update(4, false), false],
    ['a lower sequence, full', version(5), update(4, true), false],
    ['a new epoch with a difference', version(5), update(9, false, 'e2'), false],
    ['a new epoch with a full table', version(5), update(1, true, 'e2'), true],
    ['no version', version(5), { ...update(6, true), version: undefined }, false],
  ])('%s', (_, have, next, ok) => {
    expect(mayFollow(have, next).ok).toBe(ok);
  });
});

describe('TablePublisher and TableStream', () => {
  it('bring a full table, then differences, each acknowledged', async () => {
    await using server = await publish();
    await using table = subscribe(() => [server.address]);
    server.publisher.publish(version(3), () => [rule(1), rule(2)]);
    await until(() => table.version?.sequence === 3n);
    expect(server.publisher.publish(version(5), () => [rule(2, 'changed'), rule(3)])).toBe(true);
    await until(() => table.version?.sequence === 5n);
    expect(table.names()).toEqual(['changed', 'r3']);
    expect(table.applied.map((one) => [one.full, one.upserts.length, one.removes])).toEqual([
      [true, 2, []],
      [false, 2, [1]],
    ]);
    await until(() => server.heard.length === 2);
    expect(server.heard).toEqual(['edge1 ack 3', 'edge1 ack 5']);
    expect(server.publisher.subscribers()).toMatchObject([
      { gateway: 'edge1', acked: { sequence: 5n }, refused: null },
    ]);
    expect(server.publisher.publish(version(4), () => [])).toBe(false);
    expect(server.publisher.publish(version(5), () => [])).toBe(false);
  });

  it('merge what is published while an update is being applied, and give each gateway its own rows', async () => {
    await using server = await publish();
    let release = () => {};
    await using slow = subscribe(() => [server.address], {
      apply: () =>
        new Promise((resolve) => {
          release = () => resolve({ ok: true });
        }),
    });
    await using other = subscribe(() => [server.address], { gateway: 'edge2' });
    const rowsOf = (gateway: string) => [rule(1, gateway)];
    server.publisher.publish(version(1), rowsOf);
    await until(() => other.version?.sequence === 1n);
    server.publisher.publish(version(2), rowsOf);
    server.publisher.publish(version(3), (gateway) => [rule(1, gateway), rule(2)]);
    await until(() => other.version?.sequence === 3n);
    expect(slow.version).toBeNull();
    await until(() => {
      release();
      return slow.version?.sequence === 3n;
    });
    expect(slow.names()).toEqual(['edge1', 'r2']);
    expect(other.names()).toEqual(['edge2', 'r2']);
    await until(() => server.heard.includes('edge1 ack 3'));
    expect(server.heard.filter((line) => line.startsWith('edge1'))).toEqual(['edge1 ack 1', 'edge1 ack 3']);
  });

  it('keep the old table when a row is refused, name it, and go on with the next version', async () => {
    await using server = await publish();
    const full: boolean[] = [];
    await using table = subscribe(() => [server.address], {
      validate: (rows) => {
        const bad = rows.find((row) => row.name === 'bad');
        return bad === undefined ? { ok: true } : { ok: false, row: `rule ${bad.number}`, why: 'it is bad' };
      },
      apply: (next) => {
        full.push(next.full);
        return { ok: true };
      },
    });
    server.publisher.publish(version(1), () => [rule(1)]);
    await until(() => table.version?.sequence === 1n);
    server.publisher.publish(version(2), () => [rule(1), rule(2, 'bad')]);
    await until(() => server.heard.filter((line) => line.includes('nack')).length === 2);
    expect(server.heard).toEqual([
      'edge1 ack 1',
      'edge1 nack 2 rule 2: it is bad', // as a difference
      'edge1 nack 2 rule 2: it is bad', // once more, in full
    ]);
    expect(table.names()).toEqual(['r1']);
    expect(table.refusal).toMatchObject({ row: 'rule 2', why: 'it is bad', version: { sequence: 2n } });
    expect(server.publisher.subscribers()[0]?.refused).toMatchObject({ row: 'rule 2' });
    server.publisher.publish(version(3), () => [rule(1), rule(2)]);
    await until(() => table.version?.sequence === 3n);
    expect(table.names()).toEqual(['r1', 'r2']);
    expect(table.refusal).toBeNull();
    expect(full).toEqual([true, false]);
  });

  it('refuse a table whose rows were changed on the way, and take it in full', async () => {
    let broken = 0;
    await using server = await publish({}, (update) => {
      if (update.full || broken > 0) return update;
      broken += 1;
      return { ...update, upserts: update.upserts.map((row) => ({ ...row, priority: row.priority ^ 1 })) };
    });
    await using table = subscribe(() => [server.address]);
    server.publisher.publish(version(1), () => [rule(1)]);
    await until(() => table.version?.sequence === 1n);
    server.publisher.publish(version(2), () => [rule(1), rule(2)]);
    await until(() => table.version?.sequence === 2n);
    expect(server.heard[1]).toMatch(/nack 2 : the digest/);
    expect(table.applied.map((one) => [one.full, one.version.sequence])).toEqual([
      [true, 1n],
      [true, 2n],
    ]);
  });

  it('turn what apply throws into a refusal', async () => {
    await using server = await publish();
    await using table = subscribe(() => [server.address], {
      apply: () => {
        throw new Error('no such map');
      },
    });
    server.publisher.publish(version(1), () => [rule(1)]);
    await until(() => table.refusal);
    expect(table.refusal?.why).toBe('no such map');
    await until(() => server.heard.includes('edge1 nack 1 : no such map'));
  });

  it('go on with another replica without sending the table again, never with an older one', async () => {
    const one = await publish();
    await using two = await publish();
    const rows = [rule(1), rule(2)];
    one.publisher.publish(version(7), () => rows);
    two.publisher.publish(version(6), () => [rule(1)]); // lags behind
    const listed = [one.address];
    await using table = subscribe(() => listed);
    await until(() => table.version?.sequence === 7n);
    listed[0] = two.address;
    await one[Symbol.asyncDispose]();
    await until(() => table.connected && table.address === two.address);
    await until(() => two.publisher.subscribers().length === 1);
    two.publisher.publish(version(7), () => rows);
    two.publisher.publish(version(8), () => [rule(1), rule(2), rule(3)]);
    await until(() => table.version?.sequence === 8n);
    expect(table.applied.map((applied) => [applied.version.sequence, applied.full])).toEqual([
      [7n, true],
      [8n, false],
    ]);
    expect(two.heard).toEqual(['edge1 ack 8']);
    expect(table.refusal).toBeNull();
  });

  it('take a new epoch in full, with lower sequences', async () => {
    await using server = await publish();
    await using table = subscribe(() => [server.address]);
    server.publisher.publish(version(100), () => [rule(1)]);
    await until(() => table.version?.sequence === 100n);
    server.publisher.publish(version(2, 'e2'), () => [rule(5)]);
    await until(() => table.version?.epoch === 'e2');
    expect(table.names()).toEqual(['r5']);
    expect(table.applied.at(-1)?.full).toBe(true);
  });

  it('survive the end of streams by their life', async () => {
    await using server = await publish({ lifeMs: 40 });
    await using table = subscribe(() => [server.address]);
    for (let sequence = 1; sequence <= 20; sequence++) {
      server.publisher.publish(version(sequence), () => [rule(sequence)]);
      await until(() => table.version?.sequence === BigInt(sequence));
    }
    expect(table.names()).toEqual(['r20']);
  });

  it('cut off a subscriber that does not answer; it comes again when it can', async () => {
    await using server = await publish({ ackTimeoutMs: 50 });
    let asked = 0;
    let release = () => {};
    await using table = subscribe(() => [server.address], {
      apply: () => {
        asked += 1;
        return asked > 1 ? { ok: true } : new Promise((resolve) => (release = () => resolve({ ok: true })));
      },
    });
    server.publisher.publish(version(1), () => [rule(1)]);
    await until(() => asked === 1 && server.publisher.subscribers().length === 1);
    await until(() => server.publisher.subscribers().length === 0);
    release();
    server.publisher.publish(version(2), () => [rule(2)]);
    await until(() => server.heard.includes('edge1 ack 2'));
    expect(table.names()).toEqual(['r2']);
  });
});
