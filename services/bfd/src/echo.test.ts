// SPDX-License-Identifier: Apache-2.0
import type { Lab } from '@detour/lab';
import { until } from '@detour/testkit';
import {
  bfdEchoPort,
  buildEthernet,
  buildIpv4,
  buildUdp,
  ETHERTYPE,
  encodeBfdPacket,
  IP_PROTOCOL,
  toHex,
} from '@detour/wire';
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
  interface "gw0" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; };
  neighbor 169.254.1.1 dev "gw0" local 169.254.1.2;
  neighbor fd00:1::1 dev "gw0" local fd00:1::2;`;
const echo = { everyUs: 50_000, multiplier: 3 };

describe('unaffiliated echo through a node that forwards', () => {
  let lab: Lab;
  beforeAll(async () => {
    await buildWorker();
    lab = await gatewayAndNode('bfd-echo', [bird(config)]);
  });
  afterAll(async () => {
    await lab?.close();
  });
  const forward = (on: boolean) => lab.exec('n1', ['sysctl', '-qw', `net.ipv4.ip_forward=${on ? 1 : 0}`]);
  const forward6 = (on: boolean) =>
    lab.exec('n1', ['sysctl', '-qw', `net.ipv6.conf.all.forwarding=${on ? 1 : 0}`]);

  it.each([
    ['IPv4', sessionOf({ echo }), forward],
    ['IPv6', sessionOf({ echo, local: 'fd00:1::1', peer: 'fd00:1::2' }), forward6],
  ] as const)(
    '%s: up needs both; forwarding stops: down although the daemon answers',
    async (_name, spec, setForwarding) => {
      await using watched = await startEngine(lab);
      watched.engine.setSessions([spec]);
      await watched.untilHealth('n1', 'up');
      const up = await watched.row('n1');
      expect(up).toMatchObject({ state: 'up', echoState: 'up', echoDetectTimeUs: 150_000 });
      expect(up.echoRttUs).toBeGreaterThan(0);
      expect(up.echoRttUs).toBeLessThan(50_000);

      await setForwarding(false);
      await watched.untilHealth('n1', 'down', 'echo lost');
      expect(await watched.row('n1')).toMatchObject({ state: 'up', echoState: 'down', downs: 1 });
      expect((await birdSessions(lab)).find(({ address }) => address === spec.local)?.state).toBe('Up');

      await setForwarding(true);
      await watched.untilHealth('n1', 'up');
      expect(
        watched.events.filter((event) => event.probe === 'control').map((event) => event.to),
      ).not.toContain('down');
    },
  );

  it('counts an echo that was not forwarded, and believes none but its own', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf({ echo })]);
    await watched.untilHealth('n1', 'up');
    const shown = await lab.exec('gw', ['ip', '-j', 'link', 'show', 'vti-n1']);
    const links: { address: string }[] = JSON.parse(shown.stdout);
    const mac = links[0]?.address ?? '';
    const stranger = encodeBfdPacket({
      diag: 0,
      state: 'down',
      poll: false,
      final: false,
      controlPlaneIndependent: false,
      demand: false,
      detectMult: 3,
      myDiscr: 1,
      yourDiscr: 0,
      desiredMinTxUs: 1_000_000,
      requiredMinRxUs: 1_000_000,
      requiredMinEchoRxUs: 0,
    });
    // From us to us, made by the node itself: reflected without being forwarded (255), and from nobody we know (254).
    const ours = { src: '169.254.1.1', dst: '169.254.1.1' };
    const udp = buildUdp({ srcPort: 50_000, dstPort: bfdEchoPort }, stranger, ours);
    for (const ttl of [255, 254]) {
      const ip = buildIpv4({ ...ours, protocol: IP_PROTOCOL.udp, ttl }, udp);
      const frame = toHex(
        buildEthernet({ dst: mac, src: '02:00:00:00:00:01', etherType: ETHERTYPE.ipv4 }, ip),
      );
      const script = `import socket;s=socket.socket(17,3);s.bind(("gw0",0));s.send(bytes.fromhex("${frame}"))`;
      await lab.exec('n1', ['python3', '-c', script]);
    }
    const refused = await until(async () => {
      const counts = (await watched.engine.list()).refused;
      return counts['echo-no-session'] === undefined ? null : counts;
    });
    expect(refused).toMatchObject({ 'echo-ttl-not-254': 1, 'echo-no-session': 1 });
  });

  it('starts and stops with the health profile, without touching the control session', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf()]);
    await watched.untilHealth('n1', 'up');
    const { localDiscr } = await watched.row('n1');
    watched.engine.setSessions([sessionOf({ echo })]);
    await until(async () => (await watched.row('n1')).echoState === 'up');
    watched.engine.setSessions([sessionOf()]);
    await until(async () => (await watched.row('n1')).echoState === null);
    expect(await watched.row('n1')).toMatchObject({ state: 'up', localDiscr, health: { state: 'up' } });
  });
});
