// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { startForward } from './forward.js';
import { createLab } from './lab.js';
import { run } from './run.js';
import { startStack } from './stack.js';
import { planStack } from './stack-plan.js';

const paths = { dir: '/run/detour-lab/x', pinPrefix: '/sys/fs/bpf/detour/x-' };

describe('planStack', () => {
  it('places controllers on the management network and a pair of services on each gateway', () => {
    const place = (name: string, management: string) => ({
      name,
      ns: name,
      management,
      guardDevices: ['eth1'],
    });
    const gateways = [place('edge1', '172.30.0.2'), place('edge2', '172.30.0.3')];
    const plan = planStack({ gateways, replicas: { classifier: 2 } }, paths);
    expect(plan.map(({ id, ns }) => `${id} ${ns}`)).toEqual([
      'classifier mgmt',
      'classifier-2 mgmt',
      'path-selector mgmt',
      'stats-collector mgmt',
      'tunnel-gw edge1',
      'bfd edge1',
      'tunnel-gw@edge2 edge2',
      'bfd@edge2 edge2',
    ]);
    const addresses = plan.map(({ env }) => env.DETOUR_METRICS);
    expect(new Set(addresses).size).toBe(plan.length);
    expect(plan.at(-1)?.env).toMatchObject({
      DETOUR_GATEWAY: 'edge2',
      DETOUR_INSTANCE: 'bfd-edge2',
      DETOUR_PIN_DIR: '/sys/fs/bpf/detour/x-edge2',
      DETOUR_NATS: 'nats://172.30.0.1:4222',
    });
    expect(plan.every(({ env }) => !('DETOUR_OTLP' in env))).toBe(true);
  });

  it('lets the caller set the environment of one process', () => {
    const env = (service: string): Record<string, string> =>
      service === 'bfd' ? { DETOUR_LOG: 'trace' } : {};
    const logs = planStack({ env, services: ['bfd', 'classifier'] }, paths).map((one) => one.env.DETOUR_LOG);
    expect(logs).toEqual(['info', 'trace']);
  });
});

describe('startStack', () => {
  it('starts real servers, ends and starts each again with its data', async () => {
    const mgmt = { bridges: [{ name: 'br0', addresses: ['172.30.0.1/24'] }] };
    await using lab = await createLab({ namespaces: { mgmt }, links: [] }, { name: `lab-st-${process.pid}` });
    const stack = await startStack(lab, { services: [] });
    expect(stack.ids).toEqual(['nats', 'redis']);
    const redis = async (...command: string[]): Promise<string> =>
      (await lab.exec('mgmt', ['redis-cli', '-h', '172.30.0.1', ...command])).stdout.trim();

    expect(await redis('set', 'pin', '7')).toBe('OK');
    await stack.stop('redis');
    await expect(redis('get', 'pin')).rejects.toThrow(/refused/);
    await expect(stack.ready(['redis'])).rejects.toThrow(/redis ended/);
    await stack.start('redis');
    expect(await redis('get', 'pin')).toBe('7');

    await using forward = await startForward(lab, 'mgmt', { address: '172.30.0.1', port: 6379 });
    const outside = ['redis-cli', '-p', String(forward.port), 'get', 'pin'];
    expect((await run(outside)).stdout.trim()).toBe('7');

    stack.pause('nats');
    await expect(stack.ready(['nats'], 1_500)).rejects.toThrow(/not ready after 1500 ms: nats: ETIMEDOUT/);
    stack.resume('nats');
    await stack.ready(['nats']);
    await stack.kill('nats');
    expect(stack.process('nats').isRunning()).toBe(false);
    await stack.start('nats');
    expect(() => stack.process('sidecar')).toThrow(/no process 'sidecar': use nats, redis/);
    await stack[Symbol.asyncDispose]();
    expect(stack.process('nats').isRunning()).toBe(false);
  });
});
