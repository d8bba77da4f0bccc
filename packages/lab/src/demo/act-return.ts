// SPDX-License-Identifier: Apache-2.0
/** Act 5: fw1 returns, and nothing moves back to it. */
import { type Act, count, expectThat, ms, percent } from './act.js';
import { bringBack } from './act-failover.js';
import { openConnections } from './connections.js';
import { awaitNode } from './nodes.js';
import { comparePlaces } from './places.js';
import { startStreams } from './streams.js';

const total = 200;

export const returnAct: Act = {
  number: 5,
  title: 'fw1 returns',
  async play(stage, tell) {
    const { fw1 } = stage;
    const streams = await tell.during('starting streams while fw1 is away', async () => {
      await fw1.stopForwarding(); // as the act before left it; here for the act alone
      await awaitNode(stage, 'fw1', 'down');
      return startStreams(stage);
    });
    const before = await streams.places();
    await tell.step('nothing moves back', async () => {
      const tookMs = await bringBack(stage);
      const { stayed, moved } = comparePlaces(before, await streams.places());
      const { there } = await streams.stop('fw2', before);
      const text = `fw1 is up after ${ms(tookMs)}; ${moved} of ${stayed + moved} UDP flows moved, ${there.lost} of ${count(there.sent)} packets lost`;
      expectThat(moved === 0 && stayed === there.flows && there.lost === 0, text);
      return text;
    });
    await tell.step('new connections use it again', async () => {
      const { connections, shares } = await openConnections(stage, total, 0);
      await connections.close();
      const share = shares.get('fw1') ?? 0;
      const text = `fw1 got ${percent(share)} of ${total}`;
      expectThat(share > 0.25, text);
      return text;
    });
  },
};
