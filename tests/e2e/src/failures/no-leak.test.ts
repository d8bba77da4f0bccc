// SPDX-License-Identifier: Apache-2.0
import { GUARD_TABLE } from '@detour/contracts';
import { standardPorts, startCapture } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bothUp, nodeOf, type Rig, raiseRig } from './rig.js';

const { httpUnruled } = standardPorts;

describe('what the program does not handle', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('fail-leak', { apply: false });
    // The machine routes: the guard alone stands between client and server.
    await rig.lab.exec('edge1', ['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  const guarded = async (): Promise<number> => {
    const { stdout } = await rig.lab.exec('edge1', ['nft', '-j', 'list', 'table', 'inet', GUARD_TABLE]);
    const counts = [...stdout.matchAll(/"counter": ?\{"packets": ?(\d+)/g)].map(([, count]) => Number(count));
    return counts.reduce((sum, count) => sum + count, 0);
  };
  /** Tries new flows, ruled and not; returns what reached the server, and how many the guard dropped. */
  const tryEverything = async (): Promise<{ seen: number; dropped: number }> => {
    const before = await guarded();
    await using capture = await startCapture(rig.lab, 'server', 'eth0', { filter: 'ip src net 10.1.0.0/16' });
    const answers = await Promise.all([
      rig.get({ timeoutMs: 700 }),
      rig.get({ port: 8080, timeoutMs: 700 }),
      rig.get({ port: httpUnruled, timeoutMs: 700 }),
    ]);
    for (const answer of answers) expect(answer.ok).toBe(false);
    return { seen: (await capture.stop()).length, dropped: (await guarded()) - before };
  };

  it('does not pass before the first revision is live', async () => {
    const { seen, dropped } = await tryEverything();
    expect(seen).toBe(0);
    expect(dropped).toBeGreaterThan(0);
  });

  it('does not pass while the program is detached from a port, and passes again through a firewall once it is attached', async () => {
    expect(await rig.apply(rig.intent, '--wait', '--timeout', '60s')).toMatchObject({ code: 0 });
    const { pinDir } = await rig.until('both firewalls up', bothUp);
    expect(await rig.get()).toMatchObject({ ok: true, status: 200 });

    await rig.stack.stop('tunnel-gw'); // nobody puts it back meanwhile
    await rig.lab.exec('edge1', ['bpftool', 'link', 'detach', 'pinned', `${pinDir}/links/eth1`]);
    const detached = await tryEverything();
    expect(detached.seen).toBe(0);
    expect(detached.dropped).toBeGreaterThan(0);

    await rig.stack.start('tunnel-gw');
    await rig.until('the gateway as before', bothUp);
    const answer = await rig.get();
    expect(answer).toMatchObject({ ok: true, status: 200 });
    expect(answer.ok && nodeOf(await rig.flows(), answer.localPort)).toMatch(/^fw[12]$/);
  });

  it('does not pass when the pins are removed by hand', async () => {
    const { pinDir } = await rig.status();
    await rig.stack.kill('tunnel-gw');
    await rig.lab.exec('edge1', ['rm', '-rf', pinDir]);
    const { seen, dropped } = await tryEverything();
    expect(seen).toBe(0);
    expect(dropped).toBeGreaterThan(0);
    await rig.stack.start('tunnel-gw');
    await rig.until('the gateway as before', bothUp);
    expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
  });

  it('a running tunnel-gw puts back a program that was detached by hand', async () => {
    const { pinDir } = await rig.status();
    await rig.lab.exec('edge1', ['bpftool', 'link', 'detach', 'pinned', `${pinDir}/links/eth1`]);
    let answer = await rig.get({ timeoutMs: 1_000 });
    for (let i = 0; i < 10 && !answer.ok; i += 1) answer = await rig.get({ timeoutMs: 1_000 });
    expect(answer).toMatchObject({ ok: true, status: 200 });
  });
});
