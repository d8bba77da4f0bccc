// SPDX-License-Identifier: Apache-2.0
import type { Lab } from '@detour/lab';
import { until } from '@detour/testkit';
import { bfdDiag } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  bird,
  birdSessions,
  buildWorker,
  gatewayAndNode,
  sessionOf,
  startEngine,
} from './testing/gateway-and-node.js';

const timers = 'min rx interval 50 ms; min tx interval 50 ms; multiplier 3;';

describe('devices that come, go and look alike', () => {
  let lab: Lab;
  beforeAll(async () => {
    await buildWorker();
    // Two nodes with the same inner addresses, as two VRFs may have; BIRD plays both.
    const same = { ours: ['169.254.1.1/30'], theirs: ['169.254.1.2/30'] };
    lab = await gatewayAndNode(
      'bfd-devices',
      [
        bird(`interface "gw*" { ${timers} };
          neighbor 169.254.1.1 dev "gw0" local 169.254.1.2;
          neighbor 169.254.1.1 dev "gw1" local 169.254.1.2;
          neighbor 169.254.9.1 dev "gw9" local 169.254.9.2;`),
      ],
      same,
      [
        {
          a: { ns: 'gw', device: 'vti-n2', addresses: same.ours },
          b: { ns: 'n1', device: 'gw1', addresses: same.theirs },
        },
      ],
    );
  });
  afterAll(async () => {
    await lab?.close();
  });
  const ip = (ns: string, command: string) => lab.exec(ns, ['ip', ...command.split(' ')]);

  it('tells two sessions with equal addresses apart by their devices', async () => {
    await using watched = await startEngine(lab);
    const other = sessionOf({ id: 'n2', node: 'n2', device: 'vti-n2' });
    watched.engine.setSessions([sessionOf(), other]);
    await watched.untilHealth('n1', 'up');
    await watched.untilHealth('n2', 'up');
    await until(async () => (await birdSessions(lab)).filter(({ state }) => state === 'Up').length === 2);
    await ip('gw', 'link set vti-n2 down');
    await watched.untilHealth('n2', 'down', 'device vti-n2 is not up');
    expect(await watched.row('n2')).toMatchObject({ state: 'down', diag: bfdDiag.pathDown });
    expect(await watched.row('n1')).toMatchObject({ state: 'up', downs: 0 });
    await ip('gw', 'link set vti-n2 up');
    await watched.untilHealth('n2', 'up');
    expect(await watched.row('n1')).toMatchObject({ state: 'up', downs: 0 });
  });

  it('is down with a reason while device or address are missing, and follows them', async () => {
    await using watched = await startEngine(lab);
    const late = sessionOf({
      id: 'n9',
      node: 'n9',
      device: 'vti-n9',
      local: '169.254.9.1',
      peer: '169.254.9.2',
    });
    watched.engine.setSessions([late]);
    await watched.untilHealth('n9', 'down', 'device vti-n9 does not exist yet');
    const make = async () => {
      await ip('gw', `link add vti-n9 type veth peer name gw9 netns ${lab.netns('n1')}`);
      await ip('n1', 'addr add 169.254.9.2/30 dev gw9');
      await ip('n1', 'link set gw9 up');
      await ip('gw', 'link set vti-n9 up');
    };
    await make();
    await watched.untilHealth('n9', 'down', 'address 169.254.9.1 is not on vti-n9 yet');
    await ip('gw', 'addr add 169.254.9.1/30 dev vti-n9');
    await watched.untilHealth('n9', 'up');
    await ip('gw', 'link del vti-n9');
    await watched.untilHealth('n9', 'down', 'device vti-n9 does not exist yet');
    await make();
    await ip('gw', 'addr add 169.254.9.1/30 dev vti-n9');
    await watched.untilHealth('n9', 'up');
    expect(await watched.row('n9')).toMatchObject({ ups: 2, downs: 1 });
  });

  it('names another daemon that has the BFD port', async () => {
    await using first = await startEngine(lab);
    expect(first.engine.realtime).toBeTypeOf('boolean');
    await expect(startEngine(lab)).rejects.toMatchObject({
      message: expect.stringMatching(/UDP port 3784 .*EADDRINUSE; stop the other BFD daemon/),
    });
  });
});
