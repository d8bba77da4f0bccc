// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { SessionSpec } from './loop-messages.js';
import { SessionKeeper } from './session-keeper.js';
import { sessionOf } from './testing/gateway-and-node.js';

const routed = sessionOf({ route: { table: 100, prefixes: ['198.51.100.0/24'] } });
const plain = sessionOf();

/** Watchers that write down in which order they are called; routes are read when the test says so. */
function watchers() {
  const calls: string[] = [];
  const reads: (() => void)[] = [];
  const named = (specs: readonly SessionSpec[]) =>
    specs.map(({ route }) => (route ? 'routed' : 'plain')).join();
  const keeper = new SessionKeeper({
    always: [],
    engine: { setSessions: (specs) => void calls.push(`sessions ${named(specs)}`) },
    checks: { follow: (specs) => void calls.push(`checks ${named(specs)}`) },
    routes: {
      follow: (specs) => {
        calls.push(`routes ${named(specs)}`);
        return new Promise((resolve) => reads.push(resolve));
      },
    },
  });
  return { keeper, calls, reads };
}

describe('SessionKeeper', () => {
  it('starts a session whose routes matter only when they have been read', async () => {
    const { keeper, calls, reads } = watchers();
    const done = keeper.follow([routed]);
    expect(calls).toEqual(['routes routed']);
    reads[0]?.();
    expect(await done).toBe(true);
    expect(calls.slice(1)).toEqual(['sessions routed', 'checks routed']);
  });

  it('asks for no routes where none matter, and stops asking when the last of them goes', async () => {
    const { keeper, calls, reads } = watchers();
    expect(await keeper.follow([plain])).toBe(true);
    expect(calls.splice(0)).toEqual(['sessions plain', 'checks plain']);
    const first = keeper.follow([routed]);
    reads[0]?.();
    await first;
    calls.length = 0;
    const last = keeper.follow([plain]);
    expect(calls).toEqual(['routes plain']);
    reads[1]?.();
    expect(await last).toBe(true);
    expect(await keeper.follow([plain])).toBe(true);
    expect(calls.slice(1)).toEqual(['sessions plain', 'checks plain', 'sessions plain', 'checks plain']);
  });

  it('leaves out a list that another one overtook', async () => {
    const { keeper, calls, reads } = watchers();
    const early = keeper.follow([routed]);
    const late = keeper.follow([plain, routed]);
    for (const read of reads) read();
    expect([await early, await late]).toEqual([false, true]);
    expect(calls.filter((call) => call.startsWith('sessions'))).toEqual(['sessions plain,routed']);
  });

  it('runs what needs no intent from the first moment, says that this is not all, and keeps it', async () => {
    const orders: unknown[] = [];
    const keeper = new SessionKeeper({
      always: [plain],
      engine: { setSessions: (specs, more) => void orders.push([specs, more]) },
      checks: { follow: () => {} },
      routes: { follow: async () => {} },
    });
    expect(orders).toEqual([[[plain], { partial: true }]]);
    await keeper.follow([routed]);
    expect(orders[1]).toEqual([[plain, routed], undefined]);
  });
});
