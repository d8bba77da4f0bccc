// SPDX-License-Identifier: Apache-2.0
import type { IntentDocument } from '@detour/intent';
import { waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lostPackets, type Rig, raiseRig } from './rig.js';

const services = ['classifier', 'path-selector', 'stats-collector', 'tunnel-gw', 'bfd'] as const;

const noPrivileges = ['setpriv', '--inh-caps=-all', '--bounding-set=-all'];

interface Head {
  readonly revision: number;
}

describe('what cannot be done is refused, by name, with its remedy, and changes nothing', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('fail-refusals');
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  /** Runs another process of a service to its end, in a namespace of the lab, with its environment changed. */
  const runService = (
    id: string,
    env: Readonly<Record<string, string>>,
    { before = [], ns = 'mgmt' }: { readonly before?: readonly string[]; readonly ns?: string } = {},
  ) => {
    const planned = rig.stack.plan.find((one) => one.id === id);
    if (planned === undefined) throw new Error(`no ${id}`);
    const own = { DETOUR_METRICS: '127.0.0.1:0', DETOUR_LISTEN: '127.0.0.1:0', DETOUR_INSTANCE: 'second' };
    return rig.lab.exec(ns, [...before, ...planned.argv], {
      env: { ...planned.env, ...own, ...env },
      okCodes: 'any',
      timeoutMs: 60_000,
    });
  };
  const changed = (change: (document: IntentDocument) => unknown): IntentDocument => {
    const copy = structuredClone(rig.intent);
    change(copy);
    return copy;
  };
  const head = async (): Promise<number> =>
    (await rig.stack.cliJson<Head[]>(['get', 'revisions', '--limit', '1']))[0]?.revision ?? 0;
  const machine = async (): Promise<string> => {
    const commands = [
      'ip -o link',
      'ip -o address',
      'nft list ruleset',
      `ls -R ${rig.lab.pinPrefix}edge1`,
      'sysctl -a -r forwarding',
    ];
    const { stdout } = await rig.lab.exec('edge1', ['sh', '-c', commands.join('; ')]);
    return stdout
      .replaceAll(/counter packets \d+ bytes \d+/g, 'counter')
      .replaceAll(/^.*\.(stats|log).*$/gm, '');
  };

  it('every service refuses a bad environment: all of it at once, each variable with what would be right', async () => {
    const env = { DETOUR_NATS: 'localhost', DETOUR_TRACE_RATIO: '200%', DETOUR_LOG: 'loud' };
    const ran = await Promise.all(services.map(async (id) => ({ id, ...(await runService(id, env)) })));
    for (const { id, code, stderr } of ran) {
      expect([id, code]).toEqual([id, 2]);
      expect(stderr).toContain(`${id}: configuration refused`);
      expect(stderr).toMatch(/DETOUR_NATS="localhost" is refused: give .*nats/);
      expect(stderr).toMatch(/DETOUR_TRACE_RATIO="200%" is refused: give a number from 0 to 1/);
      expect(stderr).toMatch(/DETOUR_LOG="loud" is refused: give one of trace, debug, info/);
    }
  });

  it.each(['tunnel-gw', 'bfd'] as const)(
    '%s without the name of its gateway says which variable to set',
    async (id) => {
      const { code, stdout } = await runService(id, { DETOUR_GATEWAY: '' });
      expect(code).toBe(2);
      expect(stdout).toContain('DETOUR_GATEWAY is not set: give the name of this gateway in the intent');
    },
  );

  it('tunnel-gw without root names the missing privileges and the remedy, and touches nothing', async () => {
    const before = await machine();
    const { code, stdout } = await runService(
      'tunnel-gw',
      {},
      {
        ns: 'edge1',
        before: noPrivileges,
      },
    );
    expect(code).toBe(3);
    expect(stdout).toMatch(/privileges \(missing CAP_BPF.*CAP_NET_ADMIN.*\): run as root, or grant/);
    expect(await machine()).toBe(before);
  });

  it('bfd without root names what it may not do', async () => {
    const { code, stdout } = await runService('bfd', {}, { before: noPrivileges });
    expect(code).not.toBe(0);
    expect(stdout).toMatch(/CAP_NET_RAW|CAP_NET_ADMIN|root/);
  });

  it('tunnel-gw on a kernel that lacks a feature names it and the remedy, and touches nothing', async () => {
    const before = await machine();
    // A kernel without BTF: its file is hidden in a mount namespace of this one process.
    const hide = 'mount -t tmpfs none /sys/kernel/btf && exec "$0" "$@"';
    const { code, stdout } = await runService(
      'tunnel-gw',
      {},
      { ns: 'edge1', before: ['unshare', '-m', 'sh', '-c', hide] },
    );
    expect(code).toBe(3);
    expect(stdout).toMatch(
      /this machine lacks kernel BTF \(\/sys\/kernel\/btf\/vmlinux does not exist\): \S+/,
    );
    expect(await machine()).toBe(before);
  });

  it.each([
    ['tunnel-gw', /another tunnel-gw runs here and owns \S+: stop it first/],
    ['bfd', /UDP port 3784 .*stop the other BFD daemon/],
  ] as const)('a second %s beside the first is refused, and the first goes on', async (id, why) => {
    const before = await machine();
    const { code, stdout } = await runService(id, {}, { ns: 'edge1' });
    expect(code).not.toBe(0);
    expect(stdout).toMatch(why);
    expect(await machine()).toBe(before);
    expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
  });

  it('a NATS that cannot be reached: the CLI names it and ends, a service names it and waits', async () => {
    const env = { DETOUR_NATS: 'nats://172.30.0.1:4999' };
    const { code, stderr } = await rig.stack.cli(['status'], { env });
    expect(code).toBe(5);
    expect(stderr).toContain('nats://172.30.0.1:4999');
    const planned = rig.stack.plan.find(({ id }) => id === 'classifier');
    const own = { DETOUR_METRICS: '127.0.0.1:0', DETOUR_LISTEN: '127.0.0.1:0', DETOUR_INSTANCE: 'waiting' };
    const waiting = rig.lab.spawn('mgmt', planned?.argv ?? [], {
      name: 'waiting',
      env: { ...planned?.env, ...own, ...env },
    });
    const said = () => /"nats:\/\/172.30.0.1:4999".*NATS cannot be reached.*trying again/.test(waiting.log());
    await waitFor(said, { what: 'its word on NATS', timeoutMs: 40_000 });
    expect(waiting.isRunning()).toBe(true);
    await waiting.stop();
    expect(await waiting.exited).toMatchObject({ code: 0 });
  });

  it('bad flags are named', async () => {
    const lines = [
      { args: ['aply'], named: 'aply' },
      { args: ['apply', '-f', '-', '--wiat'], named: '--wiat' },
      { args: ['apply', '-f', '-', '--wait', '--timeout', 'soon'], named: 'soon' },
      { args: ['get', 'flows', '--limit', '-3'], named: '-3' },
    ];
    await Promise.all(
      lines.map(async ({ args, named }) => {
        const { code, stderr } = await rig.stack.cli(args, { input: '{}' });
        expect([args.join(' '), code]).toEqual([args.join(' '), 2]);
        expect(stderr).toContain(named);
      }),
    );
  });

  it('a bad intent is refused with file, line, column, value and remedy, before anything is published', async () => {
    const was = await head();
    const bad = `${JSON.stringify(rig.intent, null, 2).replace('"protocol": "udp"', '"protocol": "upd"')}\n`;
    const { code, stderr } = await rig.stack.cli(['apply', '-f', '-', '--wait'], { input: bad });
    expect(code).toBe(3);
    const line = bad.split('\n').findIndex((text) => text.includes('"upd"')) + 1;
    expect(stderr).toMatch(new RegExp(`:${line}:\\d+: .*upd`));
    expect(await head()).toBe(was);
    expect((await rig.status()).runningRevision).toBe(was);
  });

  it('a gateway that cannot apply a revision says why and keeps the old one, whole; apply --wait reports it', async () => {
    const stream = await rig.stream();
    const { runningRevision } = await rig.status();
    const before = await machine();
    const refused = changed(({ gateways, nodes }) => {
      const [edge1] = gateways ?? [];
      edge1?.ports?.push({ name: 'third', kind: 'internal', device: 'eth9', vrf: 'red', classify: true });
      const fw3 = JSON.stringify(nodes?.[0]).replaceAll('fw1', 'fw3').replace('192.0.2.11', '192.0.2.13');
      nodes?.push(JSON.parse(fw3.replace('4001', '4003').replaceAll('169.254.1.', '169.254.3.')));
    });
    const { code, stderr, stdout } = await rig.apply(refused, '--wait', '--timeout', '60s');
    expect([code, stderr]).toEqual([6, expect.stringContaining('eth9')]);
    expect(`${stdout}${stderr}`).toMatch(/edge1.*eth9.*(create|correct)/s);
    const status = await rig.status();
    expect(status).toMatchObject({ runningRevision, refusedRevision: runningRevision + 1 });
    expect(status.refusedWhy).toContain('eth9');
    expect(status.alarms.map(({ code: name }) => name)).toContain('revision_refused');
    expect(await machine()).toBe(before);
    expect(await rig.get()).toMatchObject({ ok: true, status: 200 });

    // The next good one is taken, and the refusal is over.
    expect(await rig.apply(rig.intent, '--wait', '--timeout', '60s')).toMatchObject({ code: 0 });
    await rig.until(
      'no alarm',
      ({ alarms, refusedRevision }) => alarms.length === 0 && refusedRevision === 0,
    );
    expect(lostPackets(await stream.stop())).toBe(0);
  });

  it('what this release cannot do is refused by the gateway in words, and nothing of it is made', async () => {
    const { runningRevision } = await rig.status();
    const before = await machine();
    const text = JSON.stringify(rig.intent).replace(
      '"protocol":"vxlan"',
      '"protocol":"vxlan","udpPort":4790',
    );
    const refused = JSON.parse(text) as IntentDocument;
    const { code, stderr } = await rig.apply(refused, '--wait', '--timeout', '60s');
    expect([code, stderr]).toEqual([
      6,
      expect.stringMatching(/fw1: vxlan to UDP port 4790 is not supported.*use port 4789/s),
    ]);
    expect((await rig.status()).runningRevision).toBe(runningRevision);
    expect(await machine()).toBe(before);
    expect(await rig.apply(rig.intent, '--wait', '--timeout', '60s')).toMatchObject({ code: 0 });
  });
});
