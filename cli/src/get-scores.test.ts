// SPDX-License-Identifier: Apache-2.0
// `get scores --explain` on a real NATS server, with a collector that answers with a known score.
import { NodeScore, StatsCollectorService, stateKey } from '@detour/contracts';
import { silentLog } from '@detour/core';
import { implement, serve, unary } from '@detour/rpc';
import { startNats } from '@detour/testkit';
import { expect, it } from 'vitest';
import { openCluster } from './cluster.js';
import { intentText, quietConsoleAt, runAt } from './testdata.js';

it('shows raw and smoothed inputs, and whose word each is', async () => {
  await using nats = await startNats();
  await using cluster = await openCluster(quietConsoleAt(nats.url));
  const score = NodeScore.fromPartial({
    ...{ node: 'fw1', score: 60, fresh: true, formula: 'capacity * (1 - cpu)' },
    inputs: { capacity: 100, cpu: 0.9, rttMs: 0.25 },
    smoothed: { cpu: 0.4000004 },
    sources: { capacity: 'the intent', cpu: 'http://192.0.2.11:9100/metrics', rttMs: 'mean of edge1 0.25' },
  });
  const collector = implement(StatsCollectorService, {
    getScores: unary(async () => ({ scores: [score] })),
    reportAttributes: unary(async () => ({ refused: [] })),
  });
  await using server = await serve({ address: '127.0.0.1:0', services: [collector], log: silentLog });
  await runAt(nats.url, ['apply', '-f', '-'], intentText());
  await cluster.state.put(stateKey.instance('stats-collector', 's1'), {
    ...{ address: server.address, metrics: '127.0.0.1:1', gateway: '', startedMs: Date.now(), beat: 1 },
  });
  const args = ['get', 'scores', '--explain', 'fw1'];
  const table = await runAt(nats.url, args);
  expect(table.out).toContain('cpu=0.9 (0.4 smoothed)');
  expect(table.out).toMatch(/rttMs=0\.25(?! \()/);
  const [row] = JSON.parse((await runAt(nats.url, [...args, '-o', 'json'])).out) as object[];
  expect(row).toMatchObject({
    ...{ by: 's1', node: 'fw1', score: 60 },
    inputs: { cpu: 0.9 },
    smoothed: { cpu: 0.4000004 },
    sources: { rttMs: 'mean of edge1 0.25' },
  });
});
