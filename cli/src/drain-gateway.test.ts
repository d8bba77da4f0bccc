// SPDX-License-Identifier: Apache-2.0
// drain-gateway and undrain-gateway: a real NATS server, and a gateway of which the test says how far it is.
import { GatewayService, GatewayStatus, stateKey } from '@detour/contracts';
import { Fault, silentLog } from '@detour/core';
import { implement, type RpcServer, serve, serverStream, unary } from '@detour/rpc';
import { type NatsServer, startNats, until } from '@detour/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, openCluster } from './cluster.js';
import { EXIT } from './exit-codes.js';
import { intentText, quietConsoleAt, runAt } from './testdata.js';

let nats: NatsServer;
let cluster: Cluster;
let server: RpcServer;
let asked = 0;
let status = GatewayStatus.fromPartial({ gateway: 'edge1' });

const run = (...args: string[]) => runAt(nats.url, args);
const twoGateways = intentText().replace(
  'healthProfiles:',
  `  - name: edge2
    underlay: { device: eth0, address: 192.0.2.2 }
    ports: [{ name: inside, kind: internal, device: eth1, vrf: red, classify: true }]
healthProfiles:`,
);

const unasked = unary((): never => {
  throw new Fault('missing_feature', 'nothing asks for it here');
});
const register = (gateway: string) =>
  cluster.state.put(stateKey.instance('tunnel-gw', gateway), {
    ...{ address: server.address, metrics: '127.0.0.1:1', gateway, startedMs: 1, beat: 1 },
  });

beforeAll(async () => {
  nats = await startNats();
  cluster = await openCluster(quietConsoleAt(nats.url));
  expect(await runAt(nats.url, ['apply', '-f', '-'], twoGateways)).toMatchObject({ code: EXIT.ok });
  const service = implement(GatewayService, {
    ...{ trace: unasked, getCounters: unasked, programFlow: unasked, getTables: unasked },
    getFlows: serverStream(async function* () {}),
    getStatus: unary(async () => {
      asked++;
      return status;
    }),
  });
  server = await serve({ address: '127.0.0.1:0', services: [service], log: silentLog });
  for (const gateway of ['edge1', 'edge2']) await register(gateway);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
});
afterEach(async () => {
  for (const gateway of ['edge1', 'edge2']) await run('undrain-gateway', gateway, '--no-wait');
});

/** What edge1 says of itself from now on. */
function says(change: Parameters<typeof GatewayStatus.fromPartial>[0]): void {
  status = GatewayStatus.fromPartial({ gateway: 'edge1', ...change });
}
const drain = { by: 'tester', recording: false, unrecorded: 0n, arrived: 12n, quietMs: 2_500n };
const keyOf = (gateway: string) => cluster.mirror.get(stateKey.gatewayDrain(gateway))?.value;

describe('drain-gateway', () => {
  it('waits through what the gateway still does, tells each step once, and ends when nothing arrives', async () => {
    says({ announced: 'yes' });
    asked = 0;
    const running = run('drain-gateway', 'edge1', '-o', 'json');
    await until(() => asked > 0);
    await until(() => keyOf('edge1') !== undefined);
    expect(keyOf('edge1')).toMatchObject({ draining: true, by: 'tester' });
    const steps = [
      { announced: 'yes', drain: { ...drain, recording: true, unrecorded: 40n } },
      { announced: 'yes', drain },
      { announced: 'drained by tester', drain: { ...drain, quietMs: 30n } },
      { announced: 'drained by tester', drain },
    ];
    const next = async (): Promise<void> => {
      const before = asked;
      await until(() => asked > before + 1); // it has seen this one
    };
    for (const step of steps.slice(0, -1)) {
      says(step);
      await next();
    }
    says(steps.at(-1) ?? {});
    const { code, out, err } = await running;
    expect({ code, data: JSON.parse(out) }).toEqual({
      code: EXIT.ok,
      data: {
        ...{ gateway: 'edge1', draining: true, changed: true, done: true, step: 'quiet' },
        ...{ unrecorded: 0, arrived: 12, quietMs: 2_500 },
      },
    });
    expect(err.trim().split('\n')).toEqual([
      'edge1 has not begun yet',
      'edge1 records the pins of its flows: Redis is not known to have 40 of them',
      'edge1 is still announced to routers',
      'packets still arrive at edge1: 12 since routers were told, the last 30 ms ago',
    ]);
  });

  it('says what remains when its time is over, and leaves the drain in force', async () => {
    says({ announced: 'drained by tester', drain: { ...drain, quietMs: 10n } });
    const { code, err } = await run('drain-gateway', 'edge1', '--timeout', '300ms');
    expect({ code, err }).toMatchObject({
      code: EXIT.timeout,
      err: expect.stringContaining('after 0.3 s packets still arrive at edge1: 12 since routers were told'),
    });
    expect(keyOf('edge1')).toMatchObject({ draining: true });
  });

  it('names a gateway that is not announced by Detour, to which routers still send', async () => {
    says({ announced: '', drain: { ...drain, quietMs: 10n } });
    const { err } = await run('drain-gateway', 'edge1', '--timeout', '100ms');
    expect(err).toContain('has nothing to announce there and your routers must be told by yourself');
  });

  it('does not wait for one that is not there', async () => {
    await cluster.state.delete(stateKey.instance('tunnel-gw', 'edge2'));
    const { code, err } = await run('drain-gateway', 'edge2');
    await register('edge2');
    expect({ code, err }).toMatchObject({
      code: EXIT.unavailable,
      err: expect.stringContaining('no tunnel-gw of edge2 is registered'),
    });
    expect(keyOf('edge2')).toMatchObject({ draining: true });
  });

  it('refuses the last one that serves, unless it is told to', async () => {
    expect(await run('drain-gateway', 'edge2', '--no-wait')).toMatchObject({ code: EXIT.ok });
    expect(await run('drain-gateway', 'edge1', '--no-wait')).toMatchObject({
      code: EXIT.refused,
      err: expect.stringContaining('no gateway would be left without edge1 (edge2 is drained): --alone'),
    });
    expect(await run('drain-gateway', 'edge1', '--no-wait', '--alone')).toMatchObject({ code: EXIT.ok });
  });

  it('knows which gateways there are, and `get gateways` which of them is drained', async () => {
    expect(await run('drain-gateway', 'edge3')).toMatchObject({
      code: EXIT.notFound,
      err: expect.stringContaining('did you mean "edge'),
    });
    await run('drain-gateway', 'edge2', '--no-wait');
    const { out } = await run('get', 'gateways', '-o', 'json');
    expect(JSON.parse(out)).toMatchObject([
      { name: 'edge1', draining: false },
      { name: 'edge2', draining: true },
    ]);
  });

  it('undrain-gateway waits until it is announced again', async () => {
    says({ announced: 'drained by tester', drain });
    await run('drain-gateway', 'edge1', '--no-wait');
    says({ announced: 'the health of nodes is not known yet' });
    expect(await run('undrain-gateway', 'edge1', '--timeout', '100ms')).toMatchObject({
      code: EXIT.timeout,
      err: expect.stringContaining('edge1 is not announced to routers: the health of nodes is not known yet'),
    });
    expect(keyOf('edge1')).toMatchObject({ draining: false });
    says({ announced: 'yes' });
    const { code, out } = await run('undrain-gateway', 'edge1', '-o', 'json');
    expect({ code, data: JSON.parse(out) }).toMatchObject({
      code: EXIT.ok,
      data: { changed: false, step: 'serving' },
    });
  });
});
