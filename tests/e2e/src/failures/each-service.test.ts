// SPDX-License-Identifier: Apache-2.0
import { connectBus, openState, type State } from '@detour/bus';
import { type DrainValue, type ScoreValue, stateKey } from '@detour/contracts';
import { silentLog } from '@detour/core';
import type { IntentDocument } from '@detour/intent';
import { openFirewall, standardAddresses, startForward, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bothUp, healthOf, lostPackets, type Rig, raiseRig } from './rig.js';

/** What Detour does for an operator, each found out by doing it. */
const abilities = [
  'new flows are served',
  'controllers decide them',
  'drains reach the tables',
  'stale nodes are told from fresh ones',
  'a dead node is left',
  'revisions come into force',
] as const;
type Ability = (typeof abilities)[number];

/** What stops while a service is dead; everything else goes on, and no service takes an established flow with it. */
const stops: readonly (readonly [string, readonly Ability[]])[] = [
  ['classifier', ['controllers decide them', 'revisions come into force']],
  ['path-selector', ['controllers decide them', 'drains reach the tables', 'revisions come into force']],
  ['stats-collector', ['stale nodes are told from fresh ones']],
  ['bfd', ['a dead node is left']],
  [
    'tunnel-gw',
    [
      'new flows are served',
      'controllers decide them',
      'drains reach the tables',
      'a dead node is left',
      'revisions come into force',
    ],
  ],
];

/** How long a function is waited for: one that should have stopped, and one that should not, on a busy machine. */
const patienceMs = { stopped: 4_000, working: 30_000 } as const;
/** A node is stale after three times that. */
const scrapeEveryMs = 500;

describe('each service in turn is killed', () => {
  let rig: Rig;
  let revision = 1;
  let state: State;
  const open: AsyncDisposable[] = [];
  beforeAll(async () => {
    rig = await raiseRig('fail-each', { scrapeEveryMs });
    open.push(rig);
    const nats = await startForward(rig.lab, 'mgmt', { address: standardAddresses.management, port: 4222 });
    const servers = [`nats://127.0.0.1:${nats.port}`];
    const bus = connectBus({ servers, name: 'test', log: silentLog, signal: new AbortController().signal });
    open.push(nats, bus);
    await bus.whenConnected();
    state = openState(bus);
  });
  afterAll(async () => {
    for (const one of open.reverse()) await one[Symbol.asyncDispose]();
  });

  const happens = (timeoutMs: number, check: () => Promise<boolean>): Promise<boolean> =>
    waitFor(() => check().catch(() => false), { what: 'it', timeoutMs, everyMs: 50 }).then(
      () => true,
      () => false,
    );
  const exporter = () => rig.lab.process('fw2', 'node-exporter');
  const isFresh = async (): Promise<boolean> =>
    ((await state.get(stateKey.score('fw2')))?.value as ScoreValue | undefined)?.fresh === true;
  /** As `detour drain` does it. */
  const drain = (draining: boolean) => {
    const value: DrainValue = { draining, by: 'test', atMs: Date.now() };
    return state.put(stateKey.drain('fw2'), value);
  };

  /** Does what a function is for, and takes it back; whether it worked. */
  const probes: Readonly<Record<Ability, (timeoutMs: number) => Promise<boolean>>> = {
    'new flows are served': (timeoutMs) =>
      happens(timeoutMs, async () => (await rig.get({ timeoutMs: 2_000 })).ok),
    'controllers decide them': async (timeoutMs) => {
      const count = async (): Promise<number> => Number((await rig.status()).decided.controller ?? 0n);
      const before = await count().catch(() => undefined);
      if (before === undefined) return false;
      return happens(timeoutMs, async () => {
        await rig.get({ timeoutMs: 1_000 });
        return (await count()) > before;
      });
    },
    'drains reach the tables': async (timeoutMs) => {
      await drain(true);
      const reached = await happens(timeoutMs, async () => (await rig.shares()).fw2 === 0);
      await drain(false);
      return reached;
    },
    'stale nodes are told from fresh ones': async (timeoutMs) => {
      exporter().signal('SIGSTOP');
      const told = await happens(timeoutMs, async () => !(await isFresh()));
      exporter().signal('SIGCONT');
      return told;
    },
    'a dead node is left': async (timeoutMs) => {
      const fw1 = openFirewall(rig.lab, 'fw1');
      await fw1.silence();
      const left = await happens(timeoutMs, async () => {
        const { fw1: slots } = await rig.shares();
        return slots === 0 && healthOf(await rig.status()).fw1 === 'down';
      });
      await fw1.restore();
      return left;
    },
    'revisions come into force': async (timeoutMs) => {
      revision += 1;
      const applied = await rig.apply(next(rig.intent, revision), '--wait', '--timeout', `${timeoutMs}ms`);
      return applied.code === 0;
    },
  };

  it.each(stops)('%s: exactly its own functions stop', async (id, stopped) => {
    const stream = await rig.stream({ flows: 4, pps: 100 });
    expect(await happens(patienceMs.working, isFresh)).toBe(true);
    await rig.stack.kill(id);
    const probe = (name: Ability): Promise<boolean> =>
      probes[name](stopped.includes(name) ? patienceMs.stopped : patienceMs.working);
    const works: Partial<Record<Ability, boolean>> = {};
    // Established flows go on through all of this; the dead node is the one interruption, and ends their measurement.
    for (const name of abilities.filter((one) => one !== 'a dead node is left'))
      works[name] = await probe(name);
    expect(lostPackets(await stream.stop())).toBe(0);
    works['a dead node is left'] = await probe('a dead node is left');
    expect(works).toEqual(Object.fromEntries(abilities.map((name) => [name, !stopped.includes(name)])));

    await rig.stack.start(id);
    await rig.until('everything as before', (status) => {
      const connected = Object.values(status.connected).every(Boolean);
      return connected && bothUp(status) && status.runningRevision === revision;
    });
    const bothChosen = async (): Promise<boolean> =>
      Object.values(await rig.shares()).every((slots) => slots > 0);
    await waitFor(bothChosen, { what: 'both firewalls chosen', timeoutMs: 40_000, everyMs: 100 });
  });
});

/** Another document: priorities move by one. */
function next(intent: IntentDocument, by: number): IntentDocument {
  const rules = (intent.rules ?? []).map((rule) => ({ ...rule, priority: rule.priority + by }));
  return { ...intent, rules };
}
