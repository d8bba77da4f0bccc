// SPDX-License-Identifier: Apache-2.0
/** What `select` may say beside weighted, each by the nodes that new flows are seen at. */
import { rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { Fault } from '@detour/core';
import type { IntentDocument } from '@detour/intent';
import { waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, controllersAt, startAcceptanceLab } from './acceptance-lab.js';
import type { AskFlows } from './crowd-protocol.js';
import { namesOf } from './crowd-wire.js';
import { nodeOfEachFlow } from './expectations.js';
import { countCrowdAtNodes, readNodeTallies } from './node-tally.js';

const CROWD_MS = 300_000;
/** The detection time of the lab's sessions, 3 × 100 ms, one interval, and 100 ms for the machine. */
const DETECT_MS = 500;
const CAPACITY: Readonly<Record<string, number>> = { fw1: 50, fw2: 30, fw3: 20 };
const PRIORITY: Readonly<Record<string, number>> = { fw1: 100, fw2: 50 };
/** Path X is wholly on h1, path Y over three hosts. */
const HOSTS: Readonly<Record<string, string>> = {
  fw1: 'h1',
  fw2: 'h1',
  fw3: 'h1',
  fw4: 'h2',
  fw5: 'h3',
  fw6: 'h4',
};
const SERVICES: Readonly<Record<string, string>> = {
  fw1: 'a',
  fw2: 'b',
  fw3: 'c',
  fw4: 'a',
  fw5: 'b',
  fw6: 'c',
};

type ChainSettings = Partial<NonNullable<IntentDocument['chains']>[number]>;

/** One chain over some of the firewalls; the others serve nothing. */
function oneHop(standard: IntentDocument, nodes: readonly string[], chain: ChainSettings): IntentDocument {
  return {
    ...standard,
    services: [{ name: 'firewall' }, { name: 'spare' }],
    nodes: (standard.nodes ?? []).map((node) => ({
      ...node,
      service: nodes.includes(node.name) ? 'firewall' : 'spare',
      capacity: CAPACITY[node.name] ?? 1,
      priority: PRIORITY[node.name] ?? 0,
      attributes: {},
    })),
    chains: [{ name: 'inspect', hops: ['firewall'], ...chain }],
  };
}

/** Two paths of three nodes. */
function overHosts(standard: IntentDocument): IntentDocument {
  return {
    ...standard,
    services: [{ name: 'a' }, { name: 'b' }, { name: 'c' }],
    nodes: (standard.nodes ?? []).map((node) => ({
      ...node,
      service: SERVICES[node.name] ?? 'a',
      host: HOSTS[node.name] ?? 'h1',
      attributes: {},
    })),
    chains: [
      {
        name: 'inspect',
        hops: ['a', 'b', 'c'],
        select: 'local',
        paths: [
          ['fw1', 'fw2', 'fw3'],
          ['fw4', 'fw5', 'fw6'],
        ],
      },
    ],
  };
}

describe('select', () => {
  let bench: AcceptanceLab;
  let standard: IntentDocument;
  let next = 0;
  const flows = (count: number, proto: 'tcp' | 'udp' = 'tcp'): AskFlows => {
    next += count;
    return { first: next - count, count, proto };
  };
  /** Brings a chain over these nodes into force; every path of it is up. */
  const take = async (intent: IntentDocument, paths: number): Promise<void> => {
    await bench.apply(intent);
    await waitForPaths((states) => states.length === paths && states.every((state) => state === 'up'));
  };
  const waitForPaths = async (isWanted: (states: readonly string[]) => boolean): Promise<void> => {
    let last: readonly string[] = [];
    const see = async () => {
      const shares = (await bench.tables()).selections[0]?.shares ?? [];
      last = shares.map(({ path, weight, state }) => `${path} ${state} ${weight}`);
      return isWanted(shares.map(({ state }) => state));
    };
    await waitFor(see, { what: 'the states of paths', timeoutMs: 30_000, everyMs: 25 }).catch((error) => {
      throw new Fault('timeout', `${(error as Error).message}; they were: ${last.join(', ')}`, {
        cause: error,
      });
    });
  };
  /** New connections at each node, while these flows are opened. */
  const openAt = async (range: AskFlows): Promise<Record<string, number>> => {
    const before = await readNodeTallies(bench);
    expect(await bench.crowd.client.open(range)).toMatchObject({ answered: range.count });
    const after = await readNodeTallies(bench);
    return Object.fromEntries(
      Object.entries(after).flatMap(([node, { opened }]) => {
        const count = opened - (before[node]?.opened ?? 0);
        return count === 0 ? [] : [[node, count]];
      }),
    );
  };

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-choices', {
      firewalls: 6,
      intent: (given) => {
        standard = given;
        return oneHop(given, ['fw1', 'fw2', 'fw3'], { select: 'round-robin' });
      },
      awaitUp: ['fw1', 'fw2', 'fw3'], // the others serve nothing yet
    });
    await countCrowdAtNodes(bench);
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });

  it('PSEL-8 round-robin: after 3,001 flows over 3 healthy paths of unlike capacity, counts differ by at most 1; so they do after 1,000 more with no path-selector', {
    timeout: CROWD_MS,
  }, async () => {
    const first = await openAt(flows(3_001));
    expect(Object.values(first).sort()).toEqual([1_000, 1_000, 1_001]);
    await bench.stack.kill('path-selector');
    const second = await openAt(flows(1_000));
    await bench.stack.start('path-selector');
    const both = Object.keys(first).map((node) => (first[node] ?? 0) + (second[node] ?? 0));
    expect(both.sort()).toEqual([1_333, 1_334, 1_334]);
    await bench.stack.ready(['path-selector']);
  });

  it('PSEL-5 random: a gateway that starts anew makes the same choices one after the other, for other flows', {
    timeout: CROWD_MS,
  }, async () => {
    await take(oneHop(standard, ['fw1', 'fw2', 'fw3'], { select: 'random' }), 3);
    const sequence = async (): Promise<(string | undefined)[]> => {
      await bench.stack.kill('tunnel-gw');
      await bench.stack.start('tunnel-gw');
      await bench.stack.ready(['tunnel-gw']);
      await waitForPaths((states) => states.length === 3 && states.every((state) => state === 'up'));
      const range = flows(300);
      expect(await bench.crowd.client.open({ ...range, window: 1 })).toMatchObject({ answered: 300 });
      const nodes = await nodeOfEachFlow(bench, namesOf(range));
      return namesOf(range).map((flow) => nodes.get(flow));
    };
    const once = await sequence();
    expect(new Set(once)).toEqual(new Set(['fw1', 'fw2', 'fw3']));
    expect(await sequence()).toEqual(once);
  });

  it('PSEL-5 hash mode: with the same table, a gateway that knows nothing of 2,000 flows, and has no pins, chooses the same path for each 5-tuple', {
    timeout: CROWD_MS,
  }, async () => {
    await take(oneHop(standard, ['fw1', 'fw2', 'fw3'], { select: 'weighted' }), 3);
    const range = flows(2_000);
    expect(await bench.crowd.client.open(range)).toMatchObject({ answered: 2_000 });
    const once = await nodeOfEachFlow(bench, namesOf(range));
    expect(once.size).toBe(2_000);

    const { pinDir } = await bench.status();
    await bench.stack.kill('tunnel-gw');
    rmSync(pinDir, { recursive: true }); // its programs, links and maps with every flow record
    expect((await bench.lab.exec('mgmt', ['redis-cli', '-h', controllersAt, 'flushall'])).stdout).toContain(
      'OK',
    );
    for (const { name } of bench.firewalls) await bench.lab.exec(name, ['conntrack', '-F']);
    await bench.stack.start('tunnel-gw');
    await bench.stack.ready(['tunnel-gw']);
    await waitForPaths((states) => states.length === 3 && states.every((state) => state === 'up'));
    expect(await bench.flows()).toEqual([]);
    expect(await bench.crowd.client.open(range)).toMatchObject({ answered: 2_000 });
    expect(await nodeOfEachFlow(bench, namesOf(range))).toEqual(once);
  });

  it('least-flows: new flows go to the path that has fewest', { timeout: CROWD_MS }, async () => {
    await take(oneHop(standard, ['fw4', 'fw5', 'fw6'], { select: 'least-flows' }), 3);
    expect(await bench.stack.cli(['drain', 'fw6'])).toMatchObject({ code: 0 });
    const weights = async () => (await bench.tables()).selections[0]?.shares.map(({ weight }) => weight);
    await waitFor(async () => (await weights())?.join() === '1,1,0', { what: 'the drain' });
    // Of all there are, for a second try finds the flows of the first
    const at = async (count: number) => {
      const before = await counts();
      const opened = await openAt(flows(count));
      return { before, opened, after: await counts() };
    };
    const counts = async () => {
      const { fw4, fw5, fw6 } = await readNodeTallies(bench);
      return { fw4: fw4?.opened ?? 0, fw5: fw5?.opened ?? 0, fw6: fw6?.opened ?? 0 };
    };
    const drained = await at(600);
    expect(drained.after.fw6).toBe(drained.before.fw6);
    expect(drained.after.fw4).toBe(drained.after.fw5);
    expect(await bench.stack.cli(['undrain', 'fw6'])).toMatchObject({ code: 0 });
    await waitFor(async () => (await weights())?.join() === '1,1,1', { what: 'the end of the drain' });
    const missing = drained.after.fw4 - drained.after.fw6;
    expect(missing).toBeGreaterThanOrEqual(300);
    expect((await at(missing)).opened).toEqual({ fw6: missing });
    expect((await at(300)).opened).toEqual({ fw4: 100, fw5: 100, fw6: 100 });
  });

  it.each([
    { preempt: true, returns: 'fw1' },
    { preempt: false, returns: 'fw2' },
  ])(
    'LB-4 priorities 100/50: all on the 100 node; when it is down all new flows are on the 50 node within DT; preempt $preempt: when it returns, new flows are on $returns, old ones stay',
    {
      timeout: CROWD_MS,
    },
    async ({ preempt, returns }) => {
      await take(oneHop(standard, ['fw1', 'fw2'], { select: 'priority', preempt: true }), 2);
      await take(oneHop(standard, ['fw1', 'fw2'], { select: 'priority', preempt }), 2);
      expect(await openAt(flows(1_000))).toEqual({ fw1: 1_000 });

      const silentMs = await bench.firewall('fw1').silence();
      await pause(Math.max(0, silentMs + DETECT_MS - performance.now()));
      const old = flows(1_000);
      expect(await openAt(old)).toEqual({ fw2: 1_000 });

      await bench.firewall('fw1').restore();
      await waitForPaths((states) => states.every((state) => state === 'up'));
      expect(await openAt(flows(1_000))).toEqual({ [returns]: 1_000 });
      expect(await bench.crowd.client.ask(old)).toMatchObject({ answered: 1_000 });
      expect(new Set((await nodeOfEachFlow(bench, namesOf(old))).values())).toEqual(new Set(['fw2']));

      if (preempt) return;
      // The tier in use is in the slots that a successor finds
      await bench.stack.kill('tunnel-gw');
      await bench.stack.start('tunnel-gw');
      await bench.stack.ready(['tunnel-gw']);
      await waitForPaths((states) => states.length === 2 && states.every((state) => state === 'up'));
      expect(await openAt(flows(500))).toEqual({ fw2: 500 });
    },
  );

  it('PSEL-7 local: path X is wholly on h1 and path Y over 3 hosts: 1,000 flows all take X; when X is down, all take Y', {
    timeout: CROWD_MS,
  }, async () => {
    await take(overHosts(standard), 2);
    expect(await openAt(flows(1_000))).toEqual({ fw1: 1_000, fw2: 1_000, fw3: 1_000 });
    await bench.firewall('fw2').silence();
    try {
      await waitForPaths((states) => states.includes('down'));
      expect(await openAt(flows(1_000))).toEqual({ fw4: 1_000, fw5: 1_000, fw6: 1_000 });
    } finally {
      await bench.firewall('fw2').restore();
    }
  });
});
