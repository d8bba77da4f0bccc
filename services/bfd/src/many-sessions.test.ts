// SPDX-License-Identifier: Apache-2.0
import type { Lab } from '@detour/lab';
import { until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  bird,
  birdSessions,
  buildWorker,
  gatewayAndNode,
  sessionOf,
  startEngine,
} from './testing/gateway-and-node.js';

const count = 200;
const at = (i: number) => `169.254.${Math.floor((i * 4) / 256) + 1}.${(i * 4) % 256}`.split('.').map(Number);
const pair = (i: number): readonly [ours: string, theirs: string] => {
  const [a = 0, b = 0, c = 0, d = 0] = at(i);
  return [`${a}.${b}.${c}.${d + 1}`, `${a}.${b}.${c}.${d + 2}`];
};
const pairs = Array.from({ length: count }, (_, i) => pair(i));

describe(`${count} sessions at 50 ms × 3`, () => {
  let lab: Lab;
  beforeAll(async () => {
    await buildWorker();
    const neighbours = pairs.map(([ours, theirs]) => `neighbor ${ours} dev "gw0" local ${theirs};`);
    lab = await gatewayAndNode(
      'bfd-many',
      [
        bird(
          `interface "gw0" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; };\n${neighbours.join('\n')}`,
          true,
        ),
      ],
      { ours: pairs.map(([ours]) => `${ours}/30`), theirs: pairs.map(([, theirs]) => `${theirs}/30`) },
    );
  });
  afterAll(async () => {
    await lab?.close();
  });

  it('all come up, half of them with echo, and none goes down although the main thread is held up', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions(
      pairs.map(([local, peer], i) =>
        sessionOf({
          id: `s${i}`,
          node: `s${i}`,
          local,
          peer,
          echo: i % 2 === 0 ? { everyUs: 50_000, multiplier: 3 } : null,
        }),
      ),
    );
    const rows = async () => (await watched.engine.list()).rows;
    await until(async () => (await rows()).every(({ health }) => health.state === 'up'), {
      timeoutMs: 20_000,
    });
    const before = await rows();
    // Ten times half a second of a main thread that does nothing but compute.
    for (let round = 0; round < 10; round++) {
      const end = performance.now() + 500;
      while (performance.now() < end);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const after = await rows();
    expect(after.map(({ downs, state }) => ({ downs, state }))).toEqual(
      after.map(() => ({ downs: 0, state: 'up' })),
    );
    const sent = after.reduce((sum, row, i) => sum + row.packetsOut - (before[i]?.packetsOut ?? 0), 0);
    expect(sent / count).toBeGreaterThan(5_000 / 50);
    expect((await birdSessions(lab)).filter(({ state }) => state === 'Up').length).toBe(count);
  }, 60_000);
});
