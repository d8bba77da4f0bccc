// SPDX-License-Identifier: Apache-2.0
import type { Lab } from '@detour/lab';
import { until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  buildWorker,
  frr,
  frrPeer,
  gatewayAndNode,
  sessionOf,
  startEngine,
  vtysh,
} from './testing/gateway-and-node.js';

const monoMs = () => Number(process.hrtime.bigint()) / 1e6;

describe('with FRR', () => {
  let lab: Lab;
  beforeAll(async () => {
    await buildWorker();
    const lines = ['detect-multiplier 5', 'receive-interval 60', 'transmit-interval 70', 'no shutdown'];
    lab = await gatewayAndNode('bfd-frr', [frr('169.254.1.1', '169.254.1.2', lines)]);
  });
  afterAll(async () => {
    await lab?.close();
  });

  it('comes up, and both sides tell the same of each other', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf()]);
    await watched.untilHealth('n1', 'up');
    // bfdd, too, starts slowly and then polls its faster timers in.
    const ours = await until(async () => {
      const row = await watched.row('n1');
      return row.detectTimeUs === 5 * 70_000 ? row : null;
    });
    expect(ours).toMatchObject({ state: 'up', remoteState: 'up', txIntervalUs: 60_000, remoteDetectMult: 5 });
    const theirs = await until(async () => {
      const peer = await frrPeer(lab);
      return peer['remote-transmit-interval'] === 50 ? peer : null;
    });
    expect(theirs).toMatchObject({
      status: 'up',
      id: ours.remoteDiscr,
      'remote-id': ours.localDiscr,
      'remote-receive-interval': 50,
      'remote-detect-multiplier': 3,
    });
  });

  it('takes a change of timers in Up', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf()]);
    await watched.untilHealth('n1', 'up');
    const timers = { desiredMinTxUs: 100_000, requiredMinRxUs: 90_000, detectMult: 3 };
    watched.engine.setSessions([sessionOf({ timers })]);
    await until(async () => (await watched.row('n1')).detectTimeUs === 5 * 90_000);
    await until(async () => (await frrPeer(lab))['remote-transmit-interval'] === 100);
    expect(await watched.row('n1')).toMatchObject({ state: 'up', txIntervalUs: 100_000, downs: 0 });
    await vtysh(lab, [
      'configure terminal',
      'bfd',
      'peer 169.254.1.1 local-address 169.254.1.2',
      'transmit-interval 200',
    ]);
    await until(async () => (await watched.row('n1')).detectTimeUs === 5 * 200_000);
    expect(await watched.row('n1')).toMatchObject({ state: 'up', downs: 0 });
    await vtysh(lab, [
      'configure terminal',
      'bfd',
      'peer 169.254.1.1 local-address 169.254.1.2',
      'transmit-interval 70',
    ]);
  });

  it('tells our AdminDown as such, and takes that of the peer for no failure', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf()]);
    await watched.untilHealth('n1', 'up');
    await watched.engine.setAdminDown('n1', true);
    await until(async () => (await frrPeer(lab))['remote-diagnostic'] === 'administratively down');
    expect(await frrPeer(lab)).toMatchObject({
      status: 'down',
      diagnostic: 'neighbor signaled session down',
    });
    await watched.engine.setAdminDown('n1', false);
    await watched.untilHealth('n1', 'up');

    const peer = ['configure terminal', 'bfd', 'peer 169.254.1.1 local-address 169.254.1.2'];
    await vtysh(lab, [...peer, 'shutdown']);
    await watched.untilHealth('n1', 'admin-down', 'peer says admin-down');
    expect(await watched.row('n1')).toMatchObject({ state: 'down', remoteState: 'admin-down' });
    await vtysh(lab, [...peer, 'no shutdown']);
    await watched.untilHealth('n1', 'up');
    expect(watched.healthOf('n1').filter((row) => row.state === 'down')).toEqual([]);
  });

  it('is up again at once after our own restart, although the peer still had the old session', async () => {
    {
      await using first = await startEngine(lab);
      first.engine.setSessions([sessionOf()]);
      await first.untilHealth('n1', 'up');
    }
    await using second = await startEngine(lab);
    second.engine.setSessions([sessionOf()]);
    await second.untilHealth('n1', 'up');
    expect(second.healthOf('n1').map((row) => row.state)).toEqual(['unknown', 'up']);
  });

  it('sees the peer die within the detection time', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf()]);
    await watched.untilHealth('n1', 'up');
    await until(async () => (await watched.row('n1')).detectTimeUs === 350_000);
    const killedAt = monoMs();
    await lab.process('n1', 'bfdd').kill();
    const health = await watched.untilHealth('n1', 'down', 'control detection time expired');
    const tookMs = Number(health.atMonoNs) / 1e6 - killedAt;
    expect(tookMs).toBeGreaterThan(250);
    expect(tookMs).toBeLessThan(450);
  });
});
