// SPDX-License-Identifier: Apache-2.0
// Containers in an environment that lacks something: one clear message in the log or the health check, and a container that does not start for ever.
import { type ContainerState, composeRoot, run, stateOf, waitFor } from '@detour/lab';
import { afterEach, describe, expect, it } from 'vitest';

const RESTARTS = 2;
const started: string[] = [];

/** Runs an image as compose would (restart on failure), without what a test leaves out. */
async function start(
  service: string,
  options: readonly string[],
  args: readonly string[] = [],
): Promise<string> {
  const restart = `--restart=on-failure:${RESTARTS}`;
  const tag = process.env.DETOUR_VERSION ?? 'dev';
  const argv = [
    'docker',
    'run',
    '-d',
    restart,
    '--cap-drop=ALL',
    ...options,
    `detour/${service}:${tag}`,
    ...args,
  ];
  const id = (await run(argv)).stdout.trim();
  started.push(id);
  return id;
}
const logOf = async (id: string): Promise<string> => {
  const { stdout, stderr } = await run(['docker', 'logs', id]);
  return stdout + stderr;
};
/** Waits until it has ended for good. */
const ended = (id: string): Promise<ContainerState> =>
  waitFor(
    async () => {
      const state = await stateOf(id);
      return state.status === 'exited' && state.restarts === RESTARTS && state;
    },
    { what: 'the container to stay down', timeoutMs: 60_000, everyMs: 200 },
  );
/** Lines that say what is wrong, each run's once. */
const errors = (log: string, about: RegExp): string[] => log.split('\n').filter((line) => about.test(line));

const GATEWAY = ['-e', 'DETOUR_GATEWAY=edge1', '-e', 'DETOUR_METRICS=127.0.0.1:9401'];
const CAPABILITIES = ['NET_ADMIN', 'NET_RAW', 'SYS_ADMIN'].map((name) => `--cap-add=${name}`);

afterEach(async () => {
  for (const id of started.splice(0)) await run(['docker', 'rm', '-fv', id]);
});

describe('a container in a bad environment', () => {
  it('no capability: tunnel-gw names each, and the remedy, once a start; then it stays down', async () => {
    const id = await start('tunnel-gw', GATEWAY);
    expect((await ended(id)).exitCode).toBe(3);
    const said = errors(await logOf(id), /this machine lacks/);
    expect(said).toHaveLength(RESTARTS + 1);
    expect(said[0]).toMatch(
      /missing CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW.*grant NET_ADMIN, NET_RAW and either SYS_ADMIN/,
    );
  });

  it('no bpffs: tunnel-gw says so and makes none that would go with the container', async () => {
    const id = await start('tunnel-gw', [...GATEWAY, ...CAPABILITIES]);
    expect((await ended(id)).exitCode).toBe(3);
    expect(errors(await logOf(id), /lacks bpffs at \/sys\/fs\/bpf \(another file system\)/)).toHaveLength(
      RESTARTS + 1,
    );
  });

  it('no capability: bfd says which right it lacks', async () => {
    const id = await start('bfd', GATEWAY);
    expect((await ended(id)).exitCode).not.toBe(0);
    expect(errors(await logOf(id), /CAP_NET_RAW|CAP_NET_ADMIN/).length).toBeGreaterThan(0);
  });

  const attach = ['node', 'attach', '--node', 'fw1', '--kind', 'gwlb', '--gateway', '192.0.2.1'];
  const underlay = ['--device', 'eth0', '--address', '192.0.2.77'];

  it('no capability: detour node attach names each, and the remedy; a wrong flag is refused before that', async () => {
    const poor = await start('cli', ['--user=root'], [...attach, ...underlay]);
    expect((await ended(poor)).exitCode).not.toBe(0);
    expect(await logOf(poor)).toMatch(/this machine lacks privileges \(missing CAP_BPF.*CAP_NET_ADMIN/);
    const wrong = await start('cli', [], [...attach, '--device', 'eth0', '--address', 'nowhere']);
    expect((await ended(wrong)).exitCode).not.toBe(0);
    expect(await logOf(wrong)).toContain('underlay.address: nowhere is no IP address');
  });

  it('detour node attach has its programs and tools in the image, and makes and removes its pair', async () => {
    const id = await start(
      'cli',
      ['--user=root', ...CAPABILITIES],
      [...attach, ...underlay, '--forward', 'bridge'],
    );
    const says = (what: RegExp) =>
      waitFor(async () => what.test(await logOf(id)), {
        what: `it to say ${what}`,
        timeoutMs: 30_000,
        everyMs: 200,
      });
    await says(/fw1: down: device eth0 has not the address 192\.0\.2\.77: it has \d/);
    const inside = (...argv: string[]) => run(['docker', 'exec', id, ...argv]);
    await inside('ip', 'address', 'add', '192.0.2.77/24', 'dev', 'eth0');
    await says(/fw1: down: no packet from gateway 192\.0\.2\.1 yet/);
    expect((await inside('ip', '-o', 'link')).stdout).toMatch(/fw1-in[\s\S]*fw1-out/);
    await run(['docker', 'stop', id]);
    expect(await logOf(id)).toContain('fw1: detached');
  });

  it('a wrong setting: every one is named', async () => {
    const id = await start('classifier', ['-e', 'DETOUR_NATS=nowhere', '-e', 'DETOUR_LISTEN=7000']);
    expect((await ended(id)).exitCode).toBe(2);
    const log = await logOf(id);
    expect(log).toMatch(/DETOUR_NATS="nowhere" is refused/);
    expect(log).toMatch(/DETOUR_LISTEN="7000" is refused: give host:port/);
  });

  it('a taken port: the variable, the address and the remedy', async () => {
    const first = await start('classifier', ['-e', 'DETOUR_METRICS=127.0.0.1:9400']);
    const share = ['--network', `container:${first}`, '-e', 'DETOUR_METRICS=127.0.0.1:9400'];
    const second = await start('path-selector', share);
    expect((await ended(second)).exitCode).toBe(1);
    expect(
      errors(await logOf(second), /DETOUR_METRICS: cannot listen on 127\.0\.0\.1:9400: the port is taken/),
    ).toHaveLength(RESTARTS + 1);
  });

  it('an address that is not of this container: the same', async () => {
    const id = await start('classifier', ['-e', 'DETOUR_METRICS=192.0.2.77:9400']);
    expect((await ended(id)).exitCode).toBe(1);
    expect(await logOf(id)).toMatch(
      /DETOUR_METRICS: cannot listen on 192\.0\.2\.77:9400: .*give a free address of this machine/,
    );
  });

  it.each(['classifier', 'path-selector', 'stats-collector'])(
    'a wrong NATS address: %s runs on, unhealthy, and both its log and its health check name the address',
    async (service) => {
      const environment = ['-e', 'DETOUR_NATS=nats://127.0.0.1:4999', '-e', 'DETOUR_METRICS=127.0.0.1:9400'];
      const quick = ['--health-interval=1s', '--health-retries=2', '--health-start-period=1s'];
      const id = await start(service, [...environment, ...quick]);
      const state = await waitFor(
        async () => {
          const now = await stateOf(id);
          return now.health === 'unhealthy' && /nothing read/.test(now.said) && now;
        },
        { what: 'an unhealthy container', timeoutMs: 30_000, everyMs: 200 },
      );
      expect(state).toMatchObject({ status: 'running', restarts: 0 });
      expect(state.said).toMatch(/nothing read yet from nats:\/\/127\.0\.0\.1:4999 \(DETOUR_NATS\)/);
      expect(errors(await logOf(id), /NATS cannot be reached/)).toHaveLength(1);
    },
  );

  it('a network that is not there: what holds the namespace names address and device', async () => {
    const id = await start('netns', ['--cap-add=NET_ADMIN'], ['inside=198.51.100.1']);
    expect((await ended(id)).exitCode).toBe(1);
    expect(await logOf(id)).toMatch(/no device has 198\.51\.100\.1, which should be inside/);
  });

  it('an old engine or Compose: named, with the version that is needed', async () => {
    const check = (what: string, version: string, least: string) =>
      run(['bash', '-c', `. tools/docker/engine.sh; too_old '${what}' '${version}' '${least}'`], {
        cwd: composeRoot,
      });
    expect((await check('Docker Engine', '19.03.15', '20.10')).stdout).toMatch(
      /Docker Engine 19\.03\.15 is too old.*20\.10 or newer/,
    );
    expect((await check('Docker Compose', '1.25.0', '1.29')).stdout).toMatch(
      /Docker Compose 1\.25\.0 is too old.*1\.29 or newer/,
    );
    for (const [version, least] of [
      ['20.10.24+dfsg1', '20.10'],
      ['28.2.2', '20.10'],
      ['2.36.0', '1.29'],
    ] as const)
      expect((await check('it', version, least)).stdout).toBe('');
  });
});
