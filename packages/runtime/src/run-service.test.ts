// SPDX-License-Identifier: Apache-2.0
// Runs real processes: what matters here is what the process does.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { until } from '@detour/testkit';
import { beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** Starts `body` as the wiring function of a service in a process of its own. */
function start(body: string, env: Record<string, string> = {}) {
  const source = `
    import { runService, text } from '${root}packages/runtime/dist/index.js';
    import { Fault } from '${root}packages/core/dist/index.js';
    await runService({ name: 'probe', settings: { extra: text('D_EXTRA', { default: 'x' }) } }, async (ctx) => { ${body} });
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    env: { PATH: process.env.PATH, ...env },
  });
  const out = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    out.stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    out.stderr += chunk;
  });
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal }));
  const lines = (): Record<string, unknown>[] =>
    out.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  const running = () =>
    until(() => lines().find((line) => line.metrics !== undefined), { timeoutMs: 10_000 });
  return { child, out, ended, lines, running };
}

describe('runService', () => {
  beforeAll(async () => {
    await promisify(execFile)('pnpm', ['exec', 'tsc', '-b', 'packages/runtime'], { cwd: root });
  });

  it('serves readiness and metrics, closes in order on SIGTERM, exits 0', async () => {
    const service = start(`
      ctx.serveMetrics(async () => 'probe_up 1\\n');
      ctx.mixTraceIds(() => ({ trace_id: 'abc' }));
      ctx.readiness.set('nats', false, 'not connected');
      process.on('SIGUSR2', () => ctx.readiness.set('nats', true));
      ctx.resources.defer(() => ctx.log.info({}, 'first closed'));
      ctx.resources.defer(() => ctx.log.info({}, 'second closed'));
    `);
    const { metrics } = await service.running();
    const get = (path: string) => fetch(`http://${metrics}${path}`);
    const notReady = await get('/ready');
    expect(notReady.status).toBe(503);
    expect(await notReady.json()).toMatchObject({
      ready: false,
      waiting: { nats: 'not connected' },
      service: 'probe',
    });
    service.child.kill('SIGUSR2');
    await until(async () => (await get('/ready')).status === 200);
    expect(await (await get('/metrics')).text()).toBe('probe_up 1\n');
    expect((await get('/healthz')).status).toBe(200);
    expect((await get('/other')).status).toBe(404);
    service.child.kill('SIGTERM');
    expect(await service.ended).toEqual({ code: 0, signal: null });
    const said = service.lines().map((line) => line.msg);
    expect(said.indexOf('second closed')).toBeLessThan(said.indexOf('first closed'));
    expect(service.lines().at(-1)).toMatchObject({
      msg: 'probe has stopped',
      trace_id: 'abc',
      service: 'probe',
    });
  });

  it('refuses wrong configuration with one line per variable and exit code 2', async () => {
    const service = start('', { DETOUR_LISTEN: 'nowhere', DETOUR_LOG: 'loud', D_EXTRA: '' });
    expect((await service.ended).code).toBe(2);
    expect(service.out.stderr.trim().split('\n')).toHaveLength(4);
    expect(service.out.stderr).toMatch(/DETOUR_LISTEN="nowhere"[\s\S]*DETOUR_LOG="loud"[\s\S]*D_EXTRA=""/);
  });

  it('ends with exit code 1 and one line after an uncaught error, having closed its resources', async () => {
    const service = start(`
      ctx.resources.defer(() => ctx.log.info({}, 'closed'));
      setTimeout(() => { throw new Error('boom'); }, 1);
    `);
    expect((await service.ended).code).toBe(1);
    expect(service.lines().filter((line) => line.level === 'error')).toMatchObject([
      { msg: 'uncaught error: boom' },
    ]);
    expect(service.lines().some((line) => line.msg === 'closed')).toBe(true);
  });

  it('ends with exit code 3 when the machine lacks something', async () => {
    const service = start(`throw new Fault('missing_feature', 'no BTF: use kernel 6.1 or newer');`);
    expect((await service.ended).code).toBe(3);
    expect(service.out.stdout).toContain('no BTF: use kernel 6.1 or newer');
  });

  it('names a metrics port that is taken', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const address = holder.address();
    const taken = typeof address === 'object' && address !== null ? address.port : 0;
    const service = start('', { DETOUR_METRICS: `127.0.0.1:${taken}` });
    expect((await service.ended).code).toBe(1);
    expect(service.out.stdout).toContain(`cannot listen on 127.0.0.1:${taken}: the port is taken`);
    holder.close();
  });

  it('stops cleanly when the signal comes during start-up', async () => {
    const service = start(`
      ctx.log.info({ metrics: 'soon' }, 'waits');
      await new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));
    `);
    await service.running();
    service.child.kill('SIGINT');
    expect((await service.ended).code).toBe(0);
  });

  it('names what hangs at shutdown, and ends', async () => {
    const service = start(
      `ctx.resources.defer(() => new Promise(() => setInterval(() => {}, 1000)), 'the sleeper');`,
      {
        DETOUR_STOP_WITHIN: '100ms',
      },
    );
    await service.running();
    service.child.kill('SIGTERM');
    expect((await service.ended).signal).toBe('SIGKILL');
    expect(service.lines().at(-1)?.msg).toBe('shutdown hangs: the sleeper; ending the process');
  });
});
