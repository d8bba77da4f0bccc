// SPDX-License-Identifier: Apache-2.0
// The stack in containers, brought up by the commands of deploy/README.md: steering, failures, and that nothing is left of it.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  composeAddresses as at,
  ComposeStack,
  composeRoot,
  receivedSpans,
  run,
  type TrafficAgent,
  waitFor,
} from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { allowedOf, commandsOf, headingsWithCommands } from './page.js';

const echo = { address: at.server, port: at.echo };
const from = { localAddresses: [at.client] };
let stack: ComposeStack;
let client: TrafficAgent | undefined;
let before: { namespaces: string[]; links: string[] };

/** Runs a command of the page as it stands, with the Compose that is here. */
async function page(command: string): Promise<string> {
  const here = command.replaceAll('docker compose', stack.command.join(' '));
  const env = {
    COMPOSE_PROJECT_NAME: 'detour',
    PULL: '0',
    KEEP_ENGINE: '1',
    DETOUR_OTLP: 'http://traces:4318/v1/traces',
    DETOUR_TRACE_RATIO: '1',
  };
  const { stdout, stderr } = await run(['bash', '-euo', 'pipefail', '-c', here], {
    ...{ cwd: composeRoot, timeoutMs: 380_000, env },
  });
  return stdout + stderr;
}

async function machine(): Promise<typeof before> {
  const links = JSON.parse((await run(['ip', '-j', 'link', 'show'])).stdout) as { ifname: string }[];
  // The engine removes a namespace's file a minute later; what counts is whether the namespace is still bound to it.
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n');
  const namespaces = mounts.flatMap((line) => /^nsfs (\S*\/docker\/netns\/\S+) /.exec(line)?.[1] ?? []);
  return {
    namespaces: namespaces.filter((name) => !name.endsWith('/default')).sort(),
    links: links.map(({ ifname }) => ifname).sort(),
  };
}

/** Ids of the programs on the gateway's devices. */
async function programsOf(service: string): Promise<number[]> {
  const pid = await run([
    'docker',
    'inspect',
    '--format',
    '{{.State.Pid}}',
    await stack.containerOf(service),
  ]);
  const { stdout } = await run(['nsenter', '-t', pid.stdout.trim(), '-n', 'bpftool', '-j', 'net', 'show']);
  const [found] = JSON.parse(stdout) as [
    { xdp: { devname: string; generic?: { id: number }; id?: number }[] },
  ];
  return found.xdp.map(({ id, generic }) => id ?? generic?.id ?? 0);
}

const agent = (): TrafficAgent => {
  if (client === undefined) throw new Error('the client has no agent');
  return client;
};
/** Which firewall tracks a connection of the client's port. */
async function firewallOf(port: number): Promise<'fw1' | 'fw2' | undefined> {
  for (const name of ['fw1', 'fw2'] as const) {
    const rows = await stack.conntrack(name);
    if (rows.some((row) => row.sourcePort === port && row.replied)) return name;
  }
  return undefined;
}
const healthOf = async (service: string): Promise<string> => (await stack.state(service)).health;
const until = (what: string, check: () => Promise<boolean>, timeoutMs = 30_000) =>
  waitFor(check, { what, timeoutMs, everyMs: 200 });
const nodeIs = (name: string, state: string) =>
  until(`${name} to be ${state}`, async () => {
    const rows = await stack.cliJson<{ name: string; gateways: { health: string }[] }[]>(['get', 'nodes']);
    return rows.some((row) => row.name === name && row.gateways.some(({ health }) => health === state));
  });

beforeAll(async () => {
  stack = await ComposeStack.open();
  before = await machine();
  for (const command of commandsOf('Start')) process.stdout.write(`$ ${command}\n${await page(command)}`);
  client = await stack.traffic('client');
});

afterAll(async () => {
  await client?.close();
  if ((await stack.services()).length > 0) await page('make compose-down');
});

describe('the stack in containers', () => {
  it('no container may do more than the page says', async () => {
    const allowed = allowedOf();
    const services = await stack.services();
    expect([...services].sort()).toEqual([...allowed.keys()].sort());
    for (const name of services) {
      const [found] = JSON.parse((await run(['docker', 'inspect', await stack.containerOf(name)])).stdout);
      const { Privileged, CapAdd, CapDrop, PortBindings } = found.HostConfig;
      const capabilities = ((CapAdd ?? []) as string[]).map((cap) => cap.replace('CAP_', '')).sort();
      const user = found.Config.User === '' ? 'root' : found.Config.User;
      expect({ name, user, capabilities }).toEqual({ name, ...allowed.get(name) });
      expect(Privileged, name).toBe(false);
      expect(CapDrop, name).toEqual(['ALL']);
      for (const bindings of Object.values(PortBindings ?? {}) as { HostIp: string }[][])
        expect(bindings.map(({ HostIp }) => HostIp)).toEqual(['127.0.0.1']);
    }
  });

  it('two of each controller, and all is well', async () => {
    const status = await waitFor(
      async () => {
        const report = await stack.cliJson<{
          healthy: boolean;
          problems: string[];
          services: { service: string }[];
        }>(['status']);
        return report.healthy && report;
      },
      { what: 'a healthy status', timeoutMs: 30_000, everyMs: 500 },
    );
    const count = (name: string) => status.services.filter(({ service }) => service === name).length;
    expect(['classifier', 'path-selector', 'stats-collector', 'tunnel-gw', 'bfd'].map(count)).toEqual([
      2, 2, 2, 1, 1,
    ]);
  });

  it('every command of the page answers', async () => {
    for (const command of commandsOf('Look')) expect(await page(command), command).not.toBe('');
    expect(headingsWithCommands()).toEqual(['Start', 'Look', 'Take it down']);
  });

  it('a request that a rule names passes one firewall, both directions; another goes straight', async () => {
    const steered = await agent().httpGet({ remote: { address: at.server, port: at.http }, path: '/' });
    expect(steered).toMatchObject({ ok: true, status: 200 });
    if (!steered.ok) return;
    const firewall = await firewallOf(steered.localPort);
    expect(firewall).toBeDefined();
    const other = firewall === 'fw1' ? 'fw2' : 'fw1';
    expect((await stack.conntrack(other)).some((row) => row.sourcePort === steered.localPort)).toBe(false);
    const straight = await agent().httpGet({ remote: { address: at.server, port: at.unruled }, path: '/' });
    expect(straight).toMatchObject({ ok: true, status: 200 });
    if (straight.ok) expect(await firewallOf(straight.localPort)).toBeUndefined();
  });

  it('the trace of a new flow is at the receiver, with spans of every service that decides it', async () => {
    await agent().httpGet({ remote: { address: at.server, port: at.http }, path: '/' });
    await until('a whole trace', async () => {
      const spans = await receivedSpans(stack);
      const roots = spans.filter(({ name }) => name === 'flow.setup');
      return roots.some(({ traceId }) => {
        const services = new Set(
          spans.filter((span) => span.traceId === traceId).map(({ service }) => service),
        );
        return ['tunnel-gw', 'classifier', 'path-selector'].every((name) => services.has(`detour-${name}`));
      });
    });
  });

  it('an established connection survives a restart of tunnel-gw', async () => {
    const connection = await agent().openTcp({ count: 1, remote: echo, ...from, intervalMs: 50 });
    expect(connection.opened).toBe(1);
    const sent = async () => (await connection.report()).connections[0];
    const firewall = await firewallOf((await sent())?.localPort ?? 0);
    await stack.compose(['restart', 'tunnel-gw']);
    await until(
      'tunnel-gw to be healthy again',
      async () => (await healthOf('tunnel-gw')) === 'healthy',
      60_000,
    );
    const mid = await sent();
    await until(
      'messages after the restart',
      async () => ((await sent())?.received ?? 0) > (mid?.received ?? 0) + 20,
    );
    const after = await sent();
    expect(after).toMatchObject({ isOpen: true, corrupt: false });
    expect(await firewallOf(after?.localPort ?? 0)).toBe(firewall);
    expect(await stack.logs('tunnel-gw')).toContain('took over the flows of a predecessor');
    await connection.close();
    const fresh = await agent().httpGet({ remote: { address: at.server, port: at.http }, path: '/' });
    expect(fresh).toMatchObject({ ok: true, status: 200 });
  });

  it('one of each controller killed: no packet is lost, and new flows are decided', async () => {
    const stream = await agent().startUdp({ remote: echo, ...from, flows: 4, pps: 100 });
    for (const name of ['classifier-1', 'path-selector-1', 'stats-collector-1']) await stack.kill(name);
    const endMs = performance.now() + 4_000; // the stream goes on for seconds after the kills
    for (let i = 0; i < 20 || performance.now() < endMs; i++) {
      const fresh = await agent().httpGet({ remote: { address: at.server, port: at.http }, path: '/' });
      expect(fresh, `request ${i} after the kill`).toMatchObject({ ok: true, status: 200 });
    }
    const report = await stream.stop();
    expect(report.sent).toBeGreaterThan(100);
    expect(report.lost - report.receiveBufferErrors).toBe(0);
    for (const name of ['classifier-1', 'path-selector-1', 'stats-collector-1']) await stack.start(name);
    for (const name of ['classifier-1', 'path-selector-1', 'stats-collector-1'])
      await until(`${name} to be healthy`, async () => (await healthOf(name)) === 'healthy');
  });

  it('a firewall killed: traffic goes on through the other', async () => {
    const stream = await agent().startUdp({ remote: echo, ...from, flows: 16, pps: 160 });
    await until('both firewalls to have flows', async () => {
      const [one, two] = await Promise.all(['fw1', 'fw2'].map((name) => stack.conntrack(name)));
      const ours = (rows: typeof one) =>
        (rows ?? []).some((row) => row.protocol === 'udp' && row.destinationPort === at.echo);
      return ours(one) && ours(two);
    });
    await stack.kill('fw1');
    await nodeIs('fw1', 'down');
    for (let i = 0; i < 10; i++) {
      const fresh = await agent().httpGet({ remote: { address: at.server, port: at.http }, path: '/' });
      expect(fresh, `request ${i} after the kill`).toMatchObject({ ok: true, status: 200 });
      if (!fresh.ok) continue;
      const seen = await stack.conntrack('fw2');
      expect(seen.some((row) => row.sourcePort === fresh.localPort && row.replied)).toBe(true);
    }
    const report = await stream.stop(500);
    const [longest] = report.outages;
    // Detection takes 1.5 s; a stream over both firewalls sees one outage, of the half that fw1 had, and nothing at its end.
    expect(longest?.lenMs ?? 0).toBeLessThan(10_000);
    expect(report.received).toBeGreaterThan(report.sent / 3);
    await stack.start('fw1');
    await nodeIs('fw1', 'up');
  });

  it('status names a port that sends and never delivers, and is content again once it does', async () => {
    const apply = async (document: string) => {
      const answer = await stack.cli(['apply', '-f', '/etc/detour/intent.yaml', '--wait'], { document });
      expect(answer.code, answer.stderr).toBe(0);
    };
    const silent = async () =>
      (await stack.cliJson<{ problems: string[] }>(['status'])).problems.filter((text) =>
        text.includes('port_silent'),
      );
    const straight = { remote: { address: at.server, port: at.echoUnruled }, ...from, pps: 50 };
    const intent = `${composeRoot}deploy/intent.yaml`;
    expect(await silent()).toEqual([]);
    const native = join(composeRoot, 'build/native.yaml');
    writeFileSync(
      native,
      readFileSync(intent, 'utf8').replaceAll('attachMode: generic', 'attachMode: native'),
    );
    await apply(native);
    const lost = await agent().startUdp(straight);
    await until('the silent port', async () =>
      (await silent()).some((text) => /port outside: \d+ frames/.test(text)),
    );
    expect((await lost.stop()).received).toBe(0);
    await apply(intent);
    const delivered = await agent().startUdp(straight);
    await until('no silent port', async () => (await silent()).length === 0);
    expect((await delivered.stop()).received).toBeGreaterThan(0);
  });

  it('takes down without a trace: no container, network, volume, namespace, device, program or pin', async () => {
    await agent().close();
    client = undefined;
    const programs = await programsOf('edge1-net');
    expect(programs.length).toBeGreaterThanOrEqual(8); // three ports, two VTIs with two sides, inject
    for (const command of commandsOf('Take it down')) await page(command);
    const left = async (...argv: string[]) =>
      (await run(['docker', ...argv], { okCodes: 'any' })).stdout.trim();
    expect(await left('ps', '-aq', '--filter', 'label=com.docker.compose.project=detour')).toBe('');
    expect(await left('network', 'ls', '-q', '--filter', 'label=com.docker.compose.project=detour')).toBe('');
    expect(await left('volume', 'ls', '-q', '--filter', 'label=com.docker.compose.project=detour')).toBe('');
    await until(
      'the kernel to have let go',
      async () => JSON.stringify(await machine()) === JSON.stringify(before),
      15_000,
    );
    expect(await machine()).toEqual(before);
    for (const id of programs)
      expect(
        (await run(['bpftool', 'prog', 'show', 'id', `${id}`], { okCodes: 'any' })).code,
        `program ${id}`,
      ).not.toBe(0);
  });
});
