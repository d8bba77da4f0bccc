// SPDX-License-Identifier: Apache-2.0
/** The mark in the kernel's routing table, with a device whose program comes and goes. */
import { fileURLToPath } from 'node:url';
import { silentLog, systemClock } from '@detour/core';
import { createLab, type Lab } from '@detour/lab';
import { until } from '@detour/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Announcing, startAnnouncing } from './announcing.js';
import { HealthBoard } from './health-board.js';
import { enterNamespace } from './namespace.js';

/** Passes everything; the lab compiles it. */
const object = fileURLToPath(new URL('../../../packages/lab/build/xdp-pass.bpf.o', import.meta.url));
const V4 = '192.0.2.129';
const V6 = '2001:db8::129';

describe('startAnnouncing', () => {
  let lab: Lab;
  let announcing: Announcing;
  let alarms: string[];

  beforeAll(async () => {
    lab = await createLab(
      {
        namespaces: { gw: {}, far: {} },
        links: [{ a: { ns: 'gw', device: 'eth1', xdpPass: true }, b: { ns: 'far', device: 'eth1' } }],
      },
      { name: 'bfd-announcing' },
    );
    enterNamespace(`/run/netns/${lab.netns('gw')}`);
  });
  afterAll(() => lab?.close());
  beforeEach(async () => {
    alarms = [];
    announcing = await start(60_000);
  });
  afterEach(async () => {
    await announcing[Symbol.asyncDispose]();
    await ip('route flush proto 221', '-6 route flush proto 221');
  });

  async function start(graceMs: number): Promise<Announcing> {
    const board = new HealthBoard();
    board.take([], true);
    return startAnnouncing({
      ...{ addresses: [V4, '2001:DB8:0::129'], graceMs, board, clock: systemClock(), log: silentLog },
      alarms: { raise: (code) => void alarms.push(code), clear: (code) => void alarms.push(`no ${code}`) },
    });
  }
  const ip = async (...commands: string[]): Promise<void> => {
    for (const command of commands) await lab.exec('gw', ['ip', ...command.split(' ')]);
  };
  async function marks(): Promise<string[]> {
    const shown = await Promise.all(
      ['-4', '-6'].map((family) => lab.exec('gw', ['ip', '-j', family, 'route', 'show', 'proto', '221'])),
    );
    const rows = shown.flatMap(({ stdout }) => JSON.parse(stdout || '[]') as { dst: string; type: string }[]);
    return rows.map(({ dst, type }) => `${type} ${dst}`);
  }
  const marked = () =>
    until(async () => (await marks()).length === 2, { what: 'both marks', timeoutMs: 20_000 });
  const unmarked = () =>
    until(async () => (await marks()).length === 0, { what: 'no mark', timeoutMs: 20_000 });
  const steers = (more: { devices?: string[]; withhold?: string } = {}) =>
    announcing.heardOf({ devices: ['eth1', 'eth9'], withhold: '', ...more });

  it('marks each address when tunnel-gw steers; a device that is not there is no reason against it', async () => {
    expect(await marks()).toEqual([]);
    expect(steers()).toEqual({ announced: true, why: '' });
    await marked();
    expect(await marks()).toEqual([`unreachable ${V4}`, `unreachable ${V6}`]);
    expect(alarms).not.toContain('gateway_withdrawn');
  });

  it('takes the marks away while a device has no program, with an alarm', async () => {
    steers();
    await marked();
    await ip('link set dev eth1 xdp off');
    await unmarked();
    expect(steers()).toEqual({ announced: false, why: 'no program is on eth1' });
    expect(alarms.at(-1)).toBe('gateway_withdrawn');
    await ip(`link set dev eth1 xdp obj ${object} sec xdp`);
    await marked();
    expect(alarms.at(-1)).toBe('no gateway_withdrawn');
  });

  it('takes them away when tunnel-gw withholds this gateway, which is no alarm', async () => {
    steers();
    await marked();
    expect(steers({ withhold: 'drained' })).toEqual({ announced: false, why: 'drained' });
    await unmarked();
    expect(alarms).not.toContain('gateway_withdrawn');
  });

  it('marks stay when it ends; the next one keeps them for the grace', async () => {
    steers();
    await marked();
    await announcing[Symbol.asyncDispose]();
    await ip(`-6 route del unreachable ${V6}/128 proto 221`);
    announcing = await start(1_000);
    expect(announcing.state.announced).toBe(true);
    await marked(); // all of them again
    await unmarked();
    expect(announcing.state.why).toMatch(/away for 1 s/);
  });
});
