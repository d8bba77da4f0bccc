// SPDX-License-Identifier: Apache-2.0
// Nodes that route (attach l3): with an arm on each side, watched from arm to arm over their hop, and with one arm.
import type { IntentDocument } from '@detour/intent';
import { startCapture, waitFor } from '@detour/lab';
import { bfdMultihopPort, parseFrame } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PairLab, startPairLab } from './acceptance/pair-lab.js';
import { awaitCounts, countGateway, FLAGS, pairFrame, watchPair } from './acceptance/pair-packets.js';
import { memberMacs } from './acceptance/pair-topology.js';

/** Addresses of the router in the bump's place: north of it the gateway's arm a, south of it arm b. */
const ROUTER = {
  a: { gateway: '10.20.1.1', own: '10.20.1.2' },
  b: { gateway: '10.20.2.1', own: '10.20.2.2' },
} as const;

function throughRouter(arms: 1 | 2): (intent: IntentDocument) => IntentDocument {
  return (intent) => ({
    ...intent,
    gateways: (intent.gateways ?? []).map((gateway) => ({
      ...gateway,
      ports: gateway.ports?.filter(({ kind }) => kind !== 'service') ?? [],
    })),
    nodes: [
      {
        name: 'rtr',
        service: 'svm-red',
        ...(arms === 2 && { health: 'fast' }),
        attach: {
          kind: 'l3',
          vrf: 'red',
          gateway: 'edge1',
          device: 'la0',
          address: `${ROUTER.a.gateway}/24`,
          nextHop: ROUTER.a.own,
          ...(arms === 2 && {
            deviceBack: 'lb0',
            addressBack: `${ROUTER.b.gateway}/24`,
            nextHopBack: ROUTER.b.own,
          }),
        },
      },
    ],
  });
}

/** The node's namespace becomes a router: its two links by themselves, with routes to either side by the gateway's arms. */
function makeRouter(arms: 1 | 2) {
  return async (lab: PairLab['lab']): Promise<void> => {
    const south = arms === 2 ? `via ${ROUTER.b.gateway} dev b` : `via ${ROUTER.a.gateway} dev a`;
    const lines = [
      'link set dev a nomaster',
      'link set dev b nomaster',
      `address add ${ROUTER.a.own}/24 dev a`,
      `address add ${ROUTER.b.own}/24 dev b`,
      `route add 10.1.0.0/16 via ${ROUTER.a.gateway} dev a`,
      `route add 203.0.113.0/24 ${south}`,
    ];
    await lab.exec('svm-red', ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
    const keys = ['ip_forward=1', 'conf.all.rp_filter=0', 'conf.a.rp_filter=0', 'conf.b.rp_filter=0'];
    const redirects = ['conf.all.send_redirects=0', 'conf.a.send_redirects=0'];
    await lab.exec('svm-red', ['sysctl', '-qw', ...[...keys, ...redirects].map((key) => `net.ipv4.${key}`)]);
  };
}

describe('a router with an arm on each side', () => {
  let bench: PairLab;
  beforeAll(async () => {
    bench = await startPairLab('router', { beforeStack: makeRouter(2), change: throughRouter(2) });
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  it('packets from the uplink enter by the first arm and come back by the second, replies the other way round; it is one hop', async () => {
    const macs = memberMacs(0);
    await using views = await watchPair(bench, 'red');
    const northPort = 47_000;
    for (const [from, frame] of [
      ['north-red', pairFrame({ direction: 'down', northPort, flags: FLAGS.syn, payload: 'there' })],
      ['south-red', pairFrame({ direction: 'up', northPort, flags: FLAGS.synAck, payload: 'back' })],
    ] as const) {
      const count = await countGateway(bench);
      await bench.sender(from).send([frame]);
      await awaitCounts(count, ({ fromNode }) => fromNode.rtr === 1);
    }
    const seen = await views.stop();
    const at = (place: 'a' | 'b') =>
      seen[place].map(({ text, ethernet, ipv4 }) => [text, ethernet.src === macs[place], ipv4?.ttl]);
    expect(at('a')).toEqual([
      ['there', true, 64], // from the gateway, as it came
      ['back', false, 63], // from the router
    ]);
    expect(at('b')).toEqual([
      ['there', false, 63],
      ['back', true, 64],
    ]);
    expect(seen.south.find(({ text }) => text === 'there')?.ipv4?.ttl).toBe(62); // two routers: it and the gateway
    expect(seen.north.filter(({ text }) => text === 'back').map(({ ipv4 }) => ipv4?.ttl)).toEqual([62]);
  });

  it('BFD goes from arm to arm over its hop, to port 4784, and notices that it forwards no more', async () => {
    const filter = `udp port ${bfdMultihopPort}`;
    await using b = await startCapture(bench.lab, 'svm-red', 'b', { filter });
    await waitFor(() => b.packets().length > 4, { what: 'BFD on the second arm' });
    const probes = (await b.stop()).flatMap(({ bytes }) => {
      const frame = parseFrame(bytes);
      return frame.ok
        ? [[frame.value.ipv4?.src, frame.value.ipv4?.dst, frame.value.ipv4?.ttl].join(' ')]
        : [];
    });
    const [a, z] = [ROUTER.a.gateway, ROUTER.b.gateway];
    expect(new Set(probes)).toEqual(new Set([`${a} ${z} 254`, `${z} ${a} 255`]));
    await bench.lab.exec('svm-red', ['sysctl', '-qw', 'net.ipv4.ip_forward=0']);
    await bench.awaitRow('red', 'down');
    await bench.lab.exec('svm-red', ['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
    await bench.awaitRow('red', 'up');
  });
});

describe('a router with one arm', () => {
  let bench: PairLab;
  beforeAll(async () => {
    bench = await startPairLab('router-one', { beforeStack: makeRouter(1), change: throughRouter(1) });
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  it('both directions go out and come back by that arm', async () => {
    await waitFor(async () => (await bench.status()).nodes[0]?.hopReady === true, {
      what: 'its MAC address',
    });
    await using views = await watchPair(bench, 'red');
    const northPort = 47_001;
    for (const [from, frame] of [
      ['north-red', pairFrame({ direction: 'down', northPort, flags: FLAGS.syn, payload: 'there' })],
      ['south-red', pairFrame({ direction: 'up', northPort, flags: FLAGS.synAck, payload: 'back' })],
    ] as const) {
      const count = await countGateway(bench);
      await bench.sender(from).send([frame]);
      await awaitCounts(count, ({ fromNode }) => fromNode.rtr === 1);
    }
    const seen = await views.stop();
    expect(seen.a.map(({ text, ipv4 }) => [text, ipv4?.ttl])).toEqual([
      ['there', 64],
      ['there', 63],
      ['back', 64],
      ['back', 63],
    ]);
    expect(seen.b).toEqual([]);
    expect(seen.south.map(({ text }) => text)).toContain('there');
  });
});
