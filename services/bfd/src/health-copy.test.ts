// SPDX-License-Identifier: Apache-2.0
import { connectBus, openState } from '@detour/bus';
import { stateKey } from '@detour/contracts';
import { silentLog, systemClock } from '@detour/core';
import { startNats, until } from '@detour/testkit';
import { expect, it } from 'vitest';
import type { HealthNews } from './health-board.js';
import { HealthCopy } from './health-copy.js';
import type { HealthRow } from './loop-messages.js';

const row = (state: HealthRow['state'], why = ''): HealthRow => ({
  ...{
    id: 'fw1/red',
    node: 'fw1',
    vrf: 'red',
    end: null,
    state,
    source: 'bfd',
    why,
    atMonoNs: 0n,
    detectTimeUs: 0,
  },
});

it('news that come in the turn in which a writing ends are written too', async () => {
  await using nats = await startNats();
  const life = new AbortController();
  const bus = connectBus({ servers: [nats.url], name: 'bfd-copy', signal: life.signal, log: silentLog });
  await bus.whenConnected();
  const state = openState(bus);
  let tell: (news: HealthNews) => void = () => expect.fail('nobody listens');
  const listen = (listener: typeof tell) => {
    tell = listener;
    return () => {};
  };
  const board = { settled: true, listen };
  {
    await using _copy = new HealthCopy({
      state,
      gateway: 'edge1',
      board,
      clock: systemClock(),
      log: silentLog,
    });
    const copied = async () => (await state.get(stateKey.health('edge1', 'fw1', 'red')))?.value;
    tell({ complete: true, rows: [row('unknown', 'handshake under way')] });
    await until(async () => ((await copied()) as { state?: string } | undefined)?.state === 'unknown');
    tell({ complete: false, rows: [row('unknown', 'handshake under way')] }); // nothing to write
    tell({ complete: false, rows: [row('up')] });
    await until(async () => ((await copied()) as { state?: string } | undefined)?.state === 'up');
  }
  life.abort();
  await bus[Symbol.asyncDispose]();
});
