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

const config = `
  interface "gw0" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; idle tx interval 1 s; };
  neighbor 169.254.1.1 dev "gw0" local 169.254.1.2;
  neighbor fd00:1::1 dev "gw0" local fd00:1::2;
  neighbor 169.254.1.9 dev "gw0" local 169.254.1.2;`;
const v6 = sessionOf({ id: 'n1-v6', local: 'fd00:1::1', peer: 'fd00:1::2' });
const monoMs = () => Number(process.hrtime.bigint()) / 1e6;

describe('with BIRD', () => {
  let lab: Lab;
  beforeAll(async () => {
    await buildWorker();
    lab = await gatewayAndNode('bfd-bird', [bird(config)]);
  });
  afterAll(async () => {
    await lab?.close();
  });
  const birdOf = async (address: string) => (await birdSessions(lab)).find((one) => one.address === address);

  it('comes up through Down, Init and Up on the wire, over IPv4 and IPv6, with TTL 255 and a high source port', async () => {
    const sniffer = lab.spawn(
      'gw',
      ['tcpdump', '-i', 'vti-n1', '-lnvv', '--immediate-mode', 'udp port 3784'],
      {
        name: 'tcpdump',
      },
    );
    await until(() => sniffer.log().includes('listening on'), { what: 'tcpdump listening' });
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf(), v6]);
    await watched.untilHealth('n1', 'up');
    await watched.untilHealth('n1-v6', 'up');
    expect(watched.healthOf('n1').map((row) => row.state)).toEqual(['unknown', 'up']);
    await until(async () => (await birdOf('169.254.1.1'))?.state === 'Up');
    await until(async () => (await birdOf('fd00:1::1'))?.state === 'Up');
    const packets = await until(() => {
      const text = sniffer.log();
      return /State Up/.test(text) ? text : null;
    });
    await sniffer.stop();
    const states = [...packets.matchAll(/State (\w+)/g)].map((match) => match[1]);
    const firstOf = (state: string) => states.indexOf(state);
    expect(firstOf('Down')).toBe(0);
    expect(firstOf('Init')).toBeGreaterThan(0);
    expect(firstOf('Up')).toBeGreaterThan(firstOf('Init'));
    expect(packets).toMatch(/ttl 255/);
    expect(packets).not.toMatch(/ttl (?!255\b)\d/);
    const ports = [...packets.matchAll(/169\.254\.1\.1\.(\d+) > 169\.254\.1\.2\.3784/g)].map((match) =>
      Number(match[1]),
    );
    expect(new Set(ports).size).toBe(1);
    expect(ports[0]).toBeGreaterThanOrEqual(49_152);
  });

  it('negotiates timers, and changes them in Up by a poll without leaving Up', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf()]);
    await watched.untilHealth('n1', 'up');
    await until(async () => (await watched.row('n1')).txIntervalUs === 50_000);
    const before = await watched.row('n1');
    expect(before).toMatchObject({
      state: 'up',
      remoteState: 'up',
      detectTimeUs: 150_000,
      remoteMinRxUs: 50_000,
    });
    await until(async () => (await birdOf('169.254.1.1'))?.timeoutS === 0.15);

    const slower = { desiredMinTxUs: 200_000, requiredMinRxUs: 100_000, detectMult: 4 };
    watched.engine.setSessions([sessionOf({ timers: slower })]);
    await until(async () => (await watched.row('n1')).txIntervalUs === 200_000);
    // BIRD sends at what we accept, and waits four times what we send.
    const seen = await until(async () => {
      const session = await birdOf('169.254.1.1');
      return session?.timeoutS === 0.8 ? session : null;
    });
    expect(seen).toMatchObject({ state: 'Up', intervalS: 0.1 });
    const after = await watched.row('n1');
    expect(after).toMatchObject({
      state: 'up',
      detectTimeUs: 300_000,
      localDiscr: before.localDiscr,
      downs: 0,
    });
    expect(watched.healthOf('n1').filter((row) => row.state === 'down')).toEqual([]);
  });

  it('keeps a session running when the intent changes another one', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf(), v6]);
    await watched.untilHealth('n1', 'up');
    await watched.untilHealth('n1-v6', 'up');
    const before = await watched.row('n1');
    watched.engine.setSessions([sessionOf(), { ...v6, local: 'fd00:1::3' }]);
    await watched.untilHealth('n1-v6', 'down', 'fd00:1::3 is not on vti-n1');
    watched.engine.setSessions([sessionOf()]);
    const { rows } = await watched.engine.list();
    expect(rows.map((row) => row.spec.id)).toEqual(['n1']);
    expect(rows[0]).toMatchObject({ state: 'up', localDiscr: before.localDiscr, downs: 0, ups: 1 });
    // A session that was taken away tells the peer AdminDown: no failure is counted there.
    await until(async () => (await birdOf('fd00:1::1'))?.state === 'Down');
  });

  it('says AdminDown, which BIRD takes for Down, and comes back', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf()]);
    await watched.untilHealth('n1', 'up');
    await watched.engine.setAdminDown('n1', true);
    await watched.untilHealth('n1', 'admin-down', 'set admin-down here');
    await until(async () => (await birdOf('169.254.1.1'))?.state === 'Down');
    expect(await watched.row('n1')).toMatchObject({
      state: 'admin-down',
      diag: bfdDiag.administrativelyDown,
    });
    await watched.engine.setAdminDown('n1', false);
    await watched.untilHealth('n1', 'up');
    await expect(watched.engine.setAdminDown('nobody', true)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('refuses packets that are not from one hop away or not from a peer, and stays up', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf()]);
    await watched.untilHealth('n1', 'up');
    const { localDiscr } = await watched.row('n1');
    const counted = async (why: string) => (await watched.engine.list()).refused[why] ?? 0;
    const before = await counted('no-session-with-discriminator'); // BIRD, still at the session before
    const down = Buffer.alloc(24);
    down.set([0x20, 0x40, 3, 24]);
    down.writeUInt32BE(99, 4);
    down.writeUInt32BE(localDiscr, 8);
    const send = (ttl: number, payload: Buffer, source = '169.254.1.2') =>
      lab.exec('n1', [
        'python3',
        '-c',
        'import socket,sys\n' +
          's=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.setsockopt(0,2,int(sys.argv[1]))\n' +
          's.bind((sys.argv[3],0));s.sendto(bytes.fromhex(sys.argv[2]),("169.254.1.1",3784))',
        String(ttl),
        payload.toString('hex'),
        source,
      ]);
    await send(254, down);
    await send(255, down.subarray(0, 20));
    const stranger = Buffer.from(down);
    stranger.writeUInt32BE(localDiscr === 1 ? 2 : 1, 8);
    await send(255, stranger);
    await lab.exec('n1', ['ip', 'addr', 'add', '10.9.9.9/32', 'dev', 'gw0']);
    await send(255, down, '10.9.9.9');
    await until(async () => (await counted('wrong-path')) === 1);
    expect(await counted('ttl-not-255')).toBe(1);
    expect(await counted('too-short')).toBe(1);
    expect(await counted('no-session-with-discriminator')).toBeGreaterThan(before); // BIRD may add one of its own
    expect(await watched.row('n1')).toMatchObject({ state: 'up', downs: 0 });
  });

  it('sees the death of the peer within the detection time, and its return', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf()]);
    await watched.untilHealth('n1', 'up');
    await until(async () => (await watched.row('n1')).detectTimeUs === 150_000);
    const daemon = lab.process('n1', 'bird');
    const killedAt = monoMs();
    daemon.signal('SIGSTOP');
    const health = await watched.untilHealth('n1', 'down', 'control detection time expired');
    const tookMs = Number(health.atMonoNs) / 1e6 - killedAt;
    // The last packet came up to 50 ms before the stop; 150 ms after it the session is down.
    expect(tookMs).toBeGreaterThan(90);
    expect(tookMs).toBeLessThan(250);
    daemon.signal('SIGCONT');
    await watched.untilHealth('n1', 'up');
  });
});
