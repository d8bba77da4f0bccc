// SPDX-License-Identifier: Apache-2.0
import { connect, createServer, type Server } from 'node:net';
import { fileURLToPath } from 'node:url';
import { connectBus, openIntentStore, openState, type State } from '@detour/bus';
import {
  BfdClient,
  bfdSocketAddress,
  type HealthReport,
  HealthState,
  type HealthValue,
  stateKey,
} from '@detour/contracts';
import { silentLog } from '@detour/core';
import type { Lab, LabProcess } from '@detour/lab';
import { callUnary, connectClient } from '@detour/rpc';
import { applyRevision, type NatsServer, revisionOf, startNats, until } from '@detour/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { bird, buildWorker, gatewayAndNode } from './testing/gateway-and-node.js';

const intent = (health: string) => `
apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }]
gateways: [{ name: gw, underlay: { device: eth0, address: 192.0.2.1 }, ports: [] }]
healthProfiles: [{ name: fast, bfd: { ${health} } }]
services: [{ name: firewall }]
nodes:
  - { name: n1, service: firewall, health: fast, attach: { kind: tunnel, protocol: vxlan, remote: 192.0.2.11, vni: 4001, vrf: red,
      gateways: { gw: { local: 169.254.1.1/30, peer: 169.254.1.2 } } } }
  - { name: n2, service: firewall, health: fast, attach: { kind: tunnel, protocol: vxlan, remote: 192.0.2.12, vni: 4002, vrf: red,
      gateways: { gw: { local: 169.254.2.1/30, peer: 169.254.2.2 } } } }
`;
const fast = 'minTxMs: 50, minRxMs: 50, multiplier: 3, echo: { everyMs: 50, multiplier: 3 }';
const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));

/** Inside the gateway's namespace: 127.0.0.1:4222 to a unix socket, which leads out of it. */
const relay = (path: string) =>
  `require('net').createServer(c=>{const o=require('net').connect('${path}');c.on('error',()=>o.destroy());o.on('error',()=>c.destroy());c.pipe(o);o.pipe(c)}).listen(4222,'127.0.0.1')`;

describe('bfd as a process', () => {
  let lab: Lab;
  let nats: NatsServer;
  let outside: Server;
  let service: LabProcess;
  let revision = 0;

  const start = (env: Record<string, string> = {}) =>
    lab.spawn('gw', [process.execPath, main], {
      name: 'bfd',
      env: {
        DETOUR_GATEWAY: 'gw',
        DETOUR_NATS: 'nats://127.0.0.1:4222',
        DETOUR_RUN_DIR: lab.dir,
        DETOUR_LOG: 'info',
        ...env,
      },
    });
  const natsAt = (server: NatsServer) => new URL(server.url.replace('nats:', 'http:'));

  beforeAll(async () => {
    await buildWorker();
    nats = await startNats();
  });
  beforeEach(async () => {
    const config = `interface "gw0" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; };
      neighbor 169.254.1.1 dev "gw0" local 169.254.1.2;`;
    lab = await gatewayAndNode('bfd-service', [bird(config)]);
    outside = createServer((inner) => {
      const { hostname, port } = natsAt(nats);
      const outer = connect(Number(port), hostname);
      inner.on('error', () => outer.destroy());
      outer.on('error', () => inner.destroy());
      inner.pipe(outer).pipe(inner);
    });
    await new Promise<void>((resolve) => outside.listen(`${lab.dir}/nats.sock`, resolve));
    lab.spawn('gw', [process.execPath, '-e', relay(`${lab.dir}/nats.sock`)], { name: 'relay' });
    service = start();
  });
  afterEach(async () => {
    outside?.close();
    await lab?.close();
  });
  afterAll(async () => {
    await nats?.[Symbol.asyncDispose]();
  });

  /** A connection to the state bucket from outside. */
  async function withState<T>(
    use: (state: State, put: (text: string) => Promise<void>) => Promise<T>,
  ): Promise<T> {
    const bus = connectBus({
      servers: [nats.url],
      name: 'test',
      signal: new AbortController().signal,
      log: silentLog,
    });
    try {
      await bus.whenConnected();
      const state = openState(bus);
      return await use(state, async (text) => {
        revision += 1;
        await applyRevision({ state, store: openIntentStore(bus) }, revisionOf(text, { revision }));
      });
    } finally {
      await bus[Symbol.asyncDispose]();
    }
  }

  /** Everything that the stream says, from now on. */
  function watch(measureEveryMs = 0) {
    const { client } = connectClient(BfdClient, bfdSocketAddress(lab.dir));
    const reports: HealthReport[] = [];
    let ended = false;
    let call: ReturnType<typeof client.watchHealth>;
    const open = () => {
      call = client.watchHealth({ gateway: 'gw', measureEveryMs });
      call.on('data', (report: HealthReport) => reports.push(report));
      call.on('error', () => void (ended || setTimeout(open, 20))); // the server is not there yet
    };
    open();
    return {
      client,
      reports,
      statesOf: (node: string) =>
        reports
          .flatMap(({ nodes }) => nodes)
          .filter((one) => one.node === node)
          .map(({ state }) => state),
      end: () => {
        ended = true;
        call.cancel();
        client.close();
      },
    };
  }
  type Watch = ReturnType<typeof watch>;
  const serving = () => until(() => service.log().includes('bfd runs'), { timeoutMs: 10_000 });
  const untilLast = (watched: Watch, node: string, state: HealthState) =>
    until(() => watched.statesOf(node).at(-1) === state, {
      timeoutMs: 10_000,
      what: `${node} in health state ${state}; log: ${service.log().slice(-1500)}`,
    });

  it('speaks with routers of its settings before there is any intent, and says nothing of nodes then', async () => {
    await service.stop();
    service = start({ DETOUR_ROUTERS: 'vti-n1/169.254.1.1/169.254.1.2', DETOUR_ROUTER_EVERY: '50ms' });
    await serving();
    const watched = watch();
    const list = () => callUnary(watched.client.listSessions.bind(watched.client), {}, { deadlineMs: 2_000 });
    const session = await until(async () => (await list()).sessions.find(({ state }) => state === 'Up'), {
      timeoutMs: 10_000,
      what: 'the session with the router to be up',
    });
    expect(session).toMatchObject({ id: 'router/vti-n1/169.254.1.2', node: '', remoteState: 'Up' });
    expect(watched.reports).toEqual([]); // a snapshot would say that there are no nodes
    await withState(async (_, apply) => {
      await apply(intent(fast).replaceAll('169.254.1.', '169.254.9.'));
      await until(() => watched.reports.some(({ snapshot }) => snapshot), { timeoutMs: 10_000 });
      expect(watched.reports.flatMap(({ nodes }) => nodes).map(({ node }) => node)).not.toContain('');
      expect((await list()).sessions[0]).toMatchObject({ state: 'Up', downs: 0 });
    });
    watched.end();
  });

  it('runs the sessions of the intent and tells health, alarms and sessions', async () => {
    await serving();
    const watched = watch();
    await withState(async (state, apply) => {
      await apply(intent(fast));
      await untilLast(watched, 'n1', HealthState.UP);
      await until(() => watched.reports.some(({ snapshot }) => snapshot));
      const snapshot = watched.reports.find((report) => report.snapshot);
      expect(snapshot?.nodes.map(({ node, vrf, state: of, source }) => ({ node, vrf, of, source }))).toEqual([
        { node: 'n1', vrf: 'red', of: HealthState.UP, source: 'bfd' },
        { node: 'n2', vrf: 'red', of: HealthState.DOWN, source: 'bfd' },
      ]);
      const copyOf = async (node: string) =>
        (await state.get(stateKey.health('gw', node, 'red')))?.value as HealthValue;
      await until(async () => (await copyOf('n1'))?.state === 'up');
      await until(async () => (await copyOf('n2'))?.why === 'device vti-n2 does not exist yet');
      await until(async () => (await state.get(stateKey.alarm('bfd-gw', 'node_down', 'n2'))) !== null);

      const list = () =>
        callUnary(watched.client.listSessions.bind(watched.client), {}, { deadlineMs: 2_000 });
      const [n1] = (await list()).sessions;
      expect(n1).toMatchObject({
        id: 'n1',
        state: 'Up',
        remoteState: 'Up',
        echo: true,
        echoUp: true,
        device: 'vti-n1',
      });

      const ready = /"metrics":"([^"]+)","msg":"bfd runs"/.exec(service.log())?.[1];
      const metrics = (await lab.exec('gw', ['curl', '-fsS', `http://${ready}/metrics`])).stdout;
      expect(metrics).toMatch(/^detour_bfd_node_up\{[^}]*node="n1"[^}]*\} 1/m);
      expect(metrics).toMatch(/^detour_bfd_node_up\{[^}]*node="n2"[^}]*\} 0/m);
      expect(metrics).toMatch(/^detour_bfd_packets_total\{[^}]*direction="in"[^}]*\} [1-9]/m);

      const measuring = watch(200);
      const probe = await until(() => measuring.reports.flatMap(({ measured }) => measured)[0]);
      expect(probe).toMatchObject({ node: 'n1', vrf: 'red', lost: 0, rttUs: expect.any(Number) });
      measuring.end();
      expect(watched.reports.flatMap(({ measured }) => measured)).toEqual([]);

      // Other timers: the session stays.
      await apply(intent('minTxMs: 60, minRxMs: 50, multiplier: 4'));
      const changed = await until(async () => {
        const [now] = (await list()).sessions;
        return now?.detectMult === 4 && now.txIntervalUs === 60_000 ? now : null;
      });
      expect(changed).toMatchObject({ localDiscriminator: n1?.localDiscriminator, downs: 0, echo: false });

      const admin = (id: string, adminDown: boolean) =>
        callUnary(watched.client.setAdminDown.bind(watched.client), { id, adminDown }, { deadlineMs: 2_000 });
      await admin('n1', true);
      await untilLast(watched, 'n1', HealthState.ADMIN_DOWN);
      expect(await state.get(stateKey.alarm('bfd-gw', 'node_down', 'n1'))).toBeNull();
      await admin('n1', false);
      await untilLast(watched, 'n1', HealthState.UP);
      expect(watched.statesOf('n1')).not.toContain(HealthState.DOWN);
      await expect(admin('fw9', true)).rejects.toMatchObject({ code: 'not_found' });
    });
    service.signal('SIGTERM');
    expect(await service.exited, service.log().slice(-2000)).toEqual({ code: 0, signal: null });
    watched.end();
  });

  it('killed and started again, says nothing of a node before it knows, and takes over a stale socket', async () => {
    await serving();
    await withState((_state, apply) => apply(intent(fast)));
    const before = watch();
    await untilLast(before, 'n1', HealthState.UP);
    before.end();
    await service.kill();
    service = start();
    await serving();
    const after = watch();
    await untilLast(after, 'n1', HealthState.UP);
    await until(() => after.reports.some(({ snapshot }) => snapshot));
    expect(new Set(after.statesOf('n1'))).toEqual(new Set([HealthState.UP]));
    after.end();
  });

  it('tells a failure at once with NATS away, and the copy follows when it is back', async () => {
    await serving();
    await withState((_state, apply) => apply(intent(fast)));
    const watched = watch();
    await untilLast(watched, 'n1', HealthState.UP);
    const { port } = natsAt(nats);
    await nats.stop();
    lab.process('n1', 'bird').signal('SIGSTOP');
    await untilLast(watched, 'n1', HealthState.DOWN);
    nats = await startNats({ port: Number(port) });
    await withState(async (state) => {
      const copy = async () =>
        (await state.get(stateKey.health('gw', 'n1', 'red')))?.value as HealthValue | undefined;
      await until(async () => (await copy())?.state === 'down', { timeoutMs: 15_000 });
    });
    watched.end();
  });

  it('refuses to start without a gateway name, and beside another BFD daemon', async () => {
    await serving();
    const nameless = lab.spawn('gw', [process.execPath, main], { name: 'nameless' });
    expect((await nameless.exited).code).toBe(2);
    expect(nameless.log()).toMatch(/DETOUR_GATEWAY is not set/);
    const second = lab.spawn('gw', [process.execPath, main], {
      name: 'second',
      env: { DETOUR_GATEWAY: 'gw', DETOUR_RUN_DIR: `${lab.dir}/second` },
    });
    expect((await second.exited).code).toBe(1);
    expect(second.log()).toMatch(/UDP port 3784 \(BFD\) of IPv4: EADDRINUSE; stop the other BFD daemon/);
  });
});
