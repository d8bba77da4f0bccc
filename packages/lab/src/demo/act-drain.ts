// SPDX-License-Identifier: Apache-2.0
/** Act 6: fw2 is drained: it gets no new connections, and its old ones finish. */
import { waitFor } from '../wait.js';
import { type Act, expectThat, ms } from './act.js';
import { openConnections } from './connections.js';
import { awaitShare } from './nodes.js';
import { nearEnd } from './places.js';

const total = 100;
const messageMs = 100;

export const drainAct: Act = {
  number: 6,
  title: 'detour drain fw2',
  async play(stage, tell) {
    const { detour, signal } = stage;
    const old = await tell.during('opening connections through both firewalls', () =>
      openConnections(stage, total, messageMs),
    );
    await tell.step('no new connections', async () => {
      const startMs = performance.now();
      await detour.run('drain', 'fw2');
      await awaitShare(stage, 'fw2', (share) => share === 0);
      const tookMs = performance.now() - startMs;
      const { connections, counts } = await openConnections(stage, total, 0);
      await connections.close();
      const text = `of ${total} opened after it, fw1 got ${counts.get('fw1') ?? 0} and fw2 ${counts.get('fw2') ?? 0}; in force after ${ms(tookMs)}`;
      expectThat(counts.get('fw1') === total, text);
      return text;
    });
    await tell.step('old ones finish', async () => {
      const before = new Map(
        (await old.connections.report()).connections.map((one) => [nearEnd(one), one.received]),
      );
      const goOn = async () => {
        const { connections } = await old.connections.report();
        const atFw2 = connections.filter((one) => old.places.get(nearEnd(one)) === 'fw2');
        const all = atFw2.every(
          (one) => one.isOpen && one.received > (before.get(nearEnd(one)) ?? Number.NaN),
        );
        return all ? atFw2 : undefined;
      };
      const atFw2 = await waitFor(goOn, {
        what: "fw2's connections to bring more messages",
        everyMs: 50,
        signal,
      });
      await old.connections.close('fin');
      const rows = await stage.fw2.conntrack({ protocol: 'tcp' });
      const ends = new Set(atFw2.map(nearEnd));
      const states = rows
        .filter((row) => ends.has(`${row.source}:${row.sourcePort}`))
        .map(({ state }) => state);
      const finished = states.filter((state) => state === 'TIME_WAIT').length;
      const text = `${atFw2.length} went on, then ${finished} were closed by both ends, as fw2's conntrack saw`;
      expectThat(
        finished === atFw2.length && atFw2.length > 0,
        `${text} (${[...new Set(states)].join(', ')})`,
      );
      return text;
    });
    await tell.step('detour undrain fw2', async () => {
      await detour.run('undrain', 'fw2');
      const share = await awaitShare(stage, 'fw2', (is) => is > 0);
      return `fw2 gets ${(share * 100).toFixed(1)} % of new connections`;
    });
  },
};
