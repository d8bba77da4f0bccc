// SPDX-License-Identifier: Apache-2.0
/** Act 1: the operator's intent is put in force, and the gateway finds its firewalls. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Fault } from '@detour/core';
import { waitFor } from '../wait.js';
import { type Act, expectThat, ms } from './act.js';
import { demoIntent } from './demo-intent.js';
import type { Stage } from './stage.js';

interface Applied {
  readonly revision: number;
  readonly gateways: readonly { readonly name: string; readonly state: string; readonly running: number }[];
}

export const applyAct: Act = {
  number: 1,
  title: "The lab's intent is applied",
  async play(stage, tell) {
    const { lab, stack, detour, fw1, fw2, signal } = stage;
    const file = join(lab.dir, 'intent.json');
    writeFileSync(file, `${JSON.stringify(demoIntent(), null, 2)}\n`);
    await tell.step('detour apply --wait', async () => {
      const startMs = performance.now();
      const { revision, gateways } = await stack.cliJson<Applied>([
        'apply',
        '-f',
        file,
        '--wait',
        '--timeout',
        '20s',
      ]);
      const tookMs = performance.now() - startMs;
      const text = gateways.map(({ name, state }) => `${name} ${state}`).join(', ');
      expectThat(gateways.length === 1 && gateways.every((one) => one.running === revision), text);
      return `revision ${revision} is in force, ${text} after ${ms(tookMs)}`;
    });
    await tell.step(
      'both firewalls are up: BFD with BIRD and with FRR, and an echo through each',
      async (progress) => {
        const startMs = performance.now();
        let missing: readonly string[] = [];
        const isReady = async (): Promise<boolean> => {
          missing = await whatIsMissing(stage);
          progress(missing.join(', '));
          return missing.length === 0;
        };
        try {
          await waitFor(isReady, { what: 'both firewalls', timeoutMs: 30_000, everyMs: 200, signal });
        } catch (cause) {
          throw new Fault('timeout', `after 30 s there is still ${missing.join(', ')}`, cause);
        }
        const tookMs = performance.now() - startMs;
        const peers = (await Promise.all([fw1.bfdPeers(), fw2.bfdPeers()])).flat();
        const down = peers.filter(({ state }) => state !== 'up');
        expectThat(
          peers.length === 2 && down.length === 0,
          `their daemons say: ${peers.map(({ address, state }) => `${address} ${state}`).join(', ')}`,
        );
        const { detectTimeUs } = await detour.session(fw1.name);
        return `after ${ms(tookMs)}; detection time ${ms(detectTimeUs / 1_000)}; their daemons agree`;
      },
    );
  },
};

/** What keeps the firewalls from getting flows by their scores. */
async function whatIsMissing({ detour, fw1, fw2 }: Stage): Promise<string[]> {
  const names = [fw1.name, fw2.name];
  const shares = await detour.shares();
  const unused = names.filter((name) => !((shares.get(name) ?? 0) > 0));
  if (unused.length > 0) return unused.map((name) => `no share of new flows for ${name}`);
  const scores = await detour.scores();
  const unscored = names.filter((name) => !scores.has(name));
  if (unscored.length > 0) return unscored.map((name) => `no score of ${name}`);
  const sessions = await Promise.all(names.map((name) => detour.session(name)));
  return sessions
    .filter(({ health, echoUp }) => health !== 'up' || !echoUp)
    .map(({ node, health, why }) => `${node} ${health} (${why})`);
}
