// SPDX-License-Identifier: Apache-2.0
import { connectBus, openState, registerInstance } from '@detour/bus';
import { ClassifierClient, ClassifierService, type RuleUpdate, type WatchRequest } from '@detour/contracts';
import { silentLog, systemClock } from '@detour/core';
import { startForward, waitFor } from '@detour/lab';
import { implement, type OpenStream, openStream, rankInstances, serve } from '@detour/rpc';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lostPackets, type Rig, raiseRig } from './rig.js';

const management = '172.30.0.1';
const classifierPort = 7011;

/** Changes one row of an update on its way; the digest stays what it was. */
type Corruption = (update: RuleUpdate) => RuleUpdate;

describe('one row of the rule stream is corrupted', () => {
  let rig: Rig;
  const open: AsyncDisposable[] = [];
  const acks: NonNullable<WatchRequest['ack']>[] = [];
  let corrupt: Corruption = (update) => update;

  beforeAll(async () => {
    rig = await raiseRig('fail-corrupt', {
      env: (_service, id): Record<string, string> =>
        id === 'classifier' ? { DETOUR_LISTEN: `${management}:${classifierPort}` } : {},
    });
    open.push(rig);
    await standBetween();
  });
  afterAll(async () => {
    for (const one of open.reverse()) await one[Symbol.asyncDispose]();
  });

  /** A relay of the classifier, registered as one of its instances, and the one that edge1 prefers. */
  async function standBetween(): Promise<void> {
    const real = `${management}:${classifierPort}`;
    const candidates = Array.from({ length: 64 }, (_, i) => `unix:${rig.lab.dir}/relay-${i}.sock`);
    const address = candidates.find((one) => rankInstances('edge1', [one, real])[0] === one) ?? '';
    const upstream = await startForward(rig.lab, 'mgmt', { address: management, port: classifierPort });
    const nats = await startForward(rig.lab, 'mgmt', { address: management, port: 4222 });
    const to = `127.0.0.1:${upstream.port}`;
    const relay = <In, Out>(
      call: ServerDuplexStream<In, Out>,
      start: (client: ClassifierClient) => OpenStream<In, Out>['call'],
      seen: (request: In) => void,
      change: (message: Out) => Out,
    ): void => {
      const { call: next, close } = openStream(ClassifierClient, to, start);
      call.on('data', (request: In) => {
        seen(request);
        next.write(request);
      });
      next.on('metadata', (metadata) => call.sendMetadata(metadata));
      next.on('data', (message: Out) => call.write(change(message)));
      next.on('end', () => call.end());
      for (const event of ['end', 'cancelled', 'error'] as const) call.on(event, close);
      next.on('error', () => call.end());
    };
    const service = implement(ClassifierService, {
      classify: (call) =>
        relay(
          call,
          (client) => client.classify(),
          () => {},
          (answers) => answers,
        ),
      watchRules: (call) =>
        relay(
          call,
          (client) => client.watchRules(),
          ({ ack }) => ack !== undefined && acks.push(ack),
          (update) => corrupt(update),
        ),
    });
    const bus = connectBus({
      ...{ servers: [`nats://127.0.0.1:${nats.port}`], name: 'relay', log: silentLog },
      signal: new AbortController().signal,
    });
    const server = await serve({ address, services: [service], log: silentLog });
    const registration = registerInstance({
      ...{ state: openState(bus), service: 'classifier', id: 'relay', address, metrics: '', gateway: '' },
      ...{ clock: systemClock(), log: silentLog },
    });
    open.push(upstream, nats, bus, server, registration);
    await registration.registered;
    // Streams stay where they are: a new one goes to the relay.
    await rig.stack.kill('tunnel-gw');
    await rig.stack.start('tunnel-gw');
    await waitFor(() => acks.some(({ error }) => error === ''), {
      what: 'a table that came by the relay',
      timeoutMs: 40_000,
    });
    await rig.until('revision 1', ({ runningRevision }) => runningRevision === 1);
  }

  /** Another revision: priorities move by one. */
  const applyNext = async (by: number) => {
    const rules = (rig.intent.rules ?? []).map((rule) => ({ ...rule, priority: rule.priority + by }));
    return rig.apply({ ...rig.intent, rules }, '--timeout', '60s');
  };

  it.each([
    {
      what: 'a row that cannot be',
      change: (update: RuleUpdate): RuleUpdate => ({
        ...update,
        upserts: update.upserts.map((row) =>
          row.name === 'web-out' ? { ...row, destinationPorts: [{ first: 900, last: 80 }] } : row,
        ),
      }),
      row: 'web-out',
      why: /900/,
    },
    {
      what: 'a row that says something else',
      change: (update: RuleUpdate): RuleUpdate => ({
        ...update,
        upserts: update.upserts.map((row) =>
          row.name === 'web-out' ? { ...row, destinationPorts: [{ first: 443, last: 443 }] } : row,
        ),
      }),
      row: '',
      why: /digest/,
    },
  ])(
    '$what: it is refused, the old table stays, traffic is unchanged, and the true table is taken afterwards',
    async ({ change, row, why }) => {
      const before = await rig.status();
      const stream = await rig.stream();
      acks.length = 0;
      corrupt = change;
      expect(await applyNext(before.runningRevision)).toMatchObject({ code: 0 });
      const refusal = await waitFor(() => acks.find(({ error }) => error !== ''), {
        what: 'a NACK',
        timeoutMs: 40_000,
      });
      expect(refusal.row).toContain(row);
      expect(refusal.error).toMatch(why);
      const raised = async (): Promise<boolean> => {
        const alarms = await rig.stack.cliJson<{ code: string }[]>(['get', 'alarms']);
        return alarms.some(({ code }) => code === 'table_refused');
      };
      await waitFor(raised, { what: 'an alarm', timeoutMs: 40_000, everyMs: 100 });

      const after = await rig.status();
      expect(after.runningRevision).toBe(before.runningRevision);
      expect(Buffer.compare(after.rulesDigest, before.rulesDigest)).toBe(0);
      expect(await rig.get()).toMatchObject({ ok: true, status: 200 });

      corrupt = (update) => update;
      expect(await applyNext(before.runningRevision + 1)).toMatchObject({ code: 0 });
      await rig.until(
        'the next revision',
        ({ runningRevision }) => runningRevision === before.runningRevision + 2,
      );
      expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
      expect(lostPackets(await stream.stop())).toBe(0);
    },
  );
});
