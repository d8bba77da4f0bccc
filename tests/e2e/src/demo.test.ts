// SPDX-License-Identifier: Apache-2.0
// The demo as a user runs it: a process with an exit code and a line for each step; and nothing of it left, however it ends.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { waitFor } from '@detour/lab';
import { describe, expect, it } from 'vitest';

const main = fileURLToPath(new URL('../../../packages/lab/dist/demo/main.js', import.meta.url));

/** One line a step, each with its measured figure. */
const steps = [
  /^✓ 1\.1 detour apply --wait: revision 1 is in force, edge1 running after \d+ ms$/,
  /^✓ 1\.2 both firewalls are up: .*: after \d+ ms; detection time 150 ms; their daemons agree$/,
  /^✓ 2\.1 HTTP from client to server passes a firewall in both directions: fw[12] saw \d+ packets out and \d+ back/,
  /^✓ 2\.2 traffic that no rule names goes straight: .* 0 of 2 firewalls know the connection$/,
  /^✓ 2\.3 the forbidden port is blocked, by the firewall: .*; nftables dropped \d+ packets$/,
  /^✓ 3\.1 1,000 connections spread as the scores say: fw1 got \d+, fw2 \d+: [\d.]+ % at fw1, where scores .* ask for [\d.]+ %$/,
  /^✓ 3\.2 fw1's connections rise, as read from its node exporter: 6,000 more; its score fell from [\d.]+ to [\d.]+/,
  /^✓ 3\.3 new connections shift: fw1 got \d+, fw2 \d+: [\d.]+ % at fw1, where scores .* ask for [\d.]+ %$/,
  /^✓ 3\.4 established connections stay: 0 of 1,000 moved/,
  /^✓ 4\.1 fw1 falls silent, which bfd finds out: .*no BFD control packets, the session is Down$/,
  /^✓ 4\.2 its UDP flows go on through fw2: \d+ of [\d,]+ packets of \d+ flows lost, [\d.]+ ms without service/,
  /^✓ 4\.3 new TCP connections go on: \d+ of \d+ failed/,
  /^✓ 4\.4 established TCP connections: \d+ through fw2 went on/,
  /^✓ 4\.5 fw1 is back: /,
  /^✓ 4\.6 fw1 only stops forwarding, which bfd finds out: .*the BFD session itself stays up$/,
  /^✓ 4\.7 its UDP flows go on through fw2: \d+ of [\d,]+ packets of \d+ flows lost, [\d.]+ ms without service/,
  /^✓ 4\.8 new TCP connections go on: \d+ of \d+ failed/,
  /^✓ 4\.9 established TCP connections: \d+ through fw2 went on/,
  /^✓ 5\.1 nothing moves back: .*; 0 of 12 UDP flows moved, 0 of [\d,]+ packets lost$/,
  /^✓ 5\.2 new connections use it again: fw1 got [\d.]+ % of 200$/,
  /^✓ 6\.1 no new connections: of 100 opened after it, fw1 got 100 and fw2 0/,
  /^✓ 6\.2 old ones finish: (\d+) went on, then \1 were closed by both ends/,
  /^✓ 6\.3 detour undrain fw2: /,
  /^✓ 7\.1 detour trace of one packet: \d+ steps, to fw[12], in \d+ ms$/,
  /^✓ 7\.2 the trace of one flow's set-up: \d+ spans across tunnel-gw, classifier, path-selector and Redis/,
];

interface Run {
  readonly child: ChildProcess;
  output(): string;
  end(): Promise<number | null>;
}

function startDemo(...args: readonly string[]): Run {
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const pipe of [child.stdout, child.stderr])
    pipe.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  const exited = once(child, 'exit');
  return {
    child,
    output: () => output,
    end: async () => {
      await exited;
      return child.exitCode;
    },
  };
}

/** Namespaces, processes, pins and files that carry the lab's name. */
function findLeftovers(name: string): string[] {
  const within = (dir: string): string[] =>
    existsSync(dir) ? readdirSync(dir).map((entry) => `${dir}/${entry}`) : [];
  const paths = ['/run/netns', '/run/detour-lab', '/sys/fs/bpf/detour'].flatMap(within);
  const processes = within('/proc')
    .filter((path) => /^\/proc\/\d+$/.test(path))
    .flatMap((path) => {
      try {
        return [readFileSync(`${path}/cmdline`, 'utf8').replaceAll('\0', ' ')];
      } catch {
        return []; // ended meanwhile
      }
    });
  return [...paths, ...processes].filter((text) => text.includes(name));
}

const unharmed =
  '0 of 200 connections broke, 0 changed their firewall, 0 packets refused; longest pause so far .*';
/** A line for each step of the failover's story. */
const failoverSteps = [
  /^✓ 1\.1 detour apply --wait: both gateways run revision 1, .*: 3 firewalls at 2 gateways; both routers spread over both$/,
  /^✓ 1\.2 200 connections, .*: 200 at 3 firewalls; [1-9]\d* pass both gateways, one way each$/,
  /^✓ 2\.1 other capacities: .*: fw1 10, fw2 100, fw3 300$/,
  new RegExp(`^✓ 2\\.2 edge2: everything on it killed, its links down: ${unharmed}$`),
  new RegExp(`^✓ 2\\.3 edge2 comes back: .*: ${unharmed}$`),
  new RegExp(`^✓ 3\\.1 NATS and all controllers killed, then edge1: Redis is enough: ${unharmed}$`),
];

/** A line for each step of the edge's story. */
const edgeSteps = [
  /^✓ 1\.1 detour apply: a chain of two services for red, an appliance for blue: revision 1 is in force$/,
  /^✓ 1\.2 each node is up by what crosses it: fw1: .*; ids1: .*; app1: /,
  /^✓ 1\.3 red, .*: [1-9]\d* packets through fw1, [1-9]\d* out and [1-9]\d* back through ids1; 200 in /,
  /^✓ 1\.4 blue, .*: [1-9]\d* packets through app1, cookie [0-9a-f]+, 3 options; 0 through red's services$/,
  /^✓ 2\.1 ids1 forwards nothing any more.*: seen down within .* ms; [1-9]\d* packets dropped as node_down, none passed$/,
  /^✓ 2\.2 blue does not notice: 200 in /,
  /^✓ 2\.3 ids1 forwards again: so does red: 200 in .*, by fw1 ids1$/,
] as const;

describe('make demo', () => {
  it('tells the whole story, every step holds, and nothing is left', { timeout: 400_000 }, async () => {
    const name = `story-${process.pid}`;
    const demo = startDemo('--name', name);
    const code = await demo.end();
    const lines = demo
      .output()
      .split('\n')
      .map((line) => line.trim());
    const told = lines.filter((line) => /^[✓✗] \d+\.\d+ /.test(line));
    for (const [i, step] of steps.entries()) expect(told[i] ?? demo.output()).toMatch(step);
    expect(told).toHaveLength(steps.length);
    expect({ code, leftovers: findLeftovers(name) }).toEqual({ code: 0, leftovers: [] });
  });

  for (const { story, what, steps: expected } of [
    {
      ...{
        story: 'edge',
        what: 'two tenants of the same addresses, a chain of a firewall and an IDS, an appliance',
      },
      steps: edgeSteps,
    },
    {
      ...{ story: 'failover', what: 'two gateways die one after the other, and no connection notices' },
      steps: failoverSteps,
    },
  ])
    it(`${story}: ${what}`, { timeout: 200_000 }, async () => {
      const name = `${story}-${process.pid}`;
      const demo = startDemo('--name', name, '--act', story);
      const code = await demo.end();
      const told = demo
        .output()
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => /^[✓✗] \d+\.\d+ /.test(line));
      for (const [i, step] of expected.entries()) expect(told[i] ?? demo.output()).toMatch(step);
      expect(told).toHaveLength(expected.length);
      expect({ code, leftovers: findLeftovers(name) }).toEqual({ code: 0, leftovers: [] });
    });

  it('ends with 130 at Ctrl-C, at whatever moment, and leaves nothing', { timeout: 200_000 }, async () => {
    for (const moment of ['', '1 The lab', '✓ 2.2']) {
      const name = `interrupted-${process.pid}`;
      const demo = startDemo('--name', name, '--act', '2');
      const what = `'${moment}' in the demo's output`;
      await waitFor(() => demo.output().includes(moment) && existsSync(`/run/detour-lab/${name}.state`), {
        what,
        timeoutMs: 60_000,
      });
      demo.child.kill('SIGINT');
      expect({ moment, code: await demo.end() }).toEqual({ moment, code: 130 });
      expect(findLeftovers(name)).toEqual([]);
    }
  });

  it('leaves the lab running with --keep, says how to explore it, and takes it down with --down', {
    timeout: 200_000,
  }, async () => {
    const name = `kept-${process.pid}`;
    const demo = startDemo('--name', name, '--act', '2', '--keep');
    const code = await demo.end();
    expect({ code, output: demo.output() }).toMatchObject({ code: 0 });
    const lines = demo
      .output()
      .split('\n')
      .map((line) => line.trim());
    const shell = (script: string): Promise<{ code: number | null; output: string }> => {
      const child = spawn('bash', ['-c', script], { stdio: ['ignore', 'pipe', 'pipe'] });
      let output = '';
      for (const pipe of [child.stdout, child.stderr])
        pipe.setEncoding('utf8').on('data', (text: string) => {
          output += text;
        });
      return once(child, 'close').then(() => ({ code: child.exitCode, output }));
    };
    try {
      const define = lines.find((line) => line.startsWith('detour()'));
      const printed = lines.filter(
        (line) => /^(detour [a-z]|nsenter )/.test(line) && !line.includes('tcpdump'),
      );
      expect(printed.length).toBeGreaterThanOrEqual(5);
      for (const command of printed) {
        const { code, output } = await shell(`${define ?? 'false'}\n${command}`);
        expect({ command, code, output }).toMatchObject({ command, code: 0 });
      }
    } finally {
      const down = lines.find((line) => line.endsWith(`--down --name ${name}`));
      expect(await shell(down ?? 'false')).toMatchObject({ code: 0, output: `${name} is taken down\n` });
    }
    expect(findLeftovers(name)).toEqual([]);
  });

  it('refuses wrong flags by name', async () => {
    const demo = startDemo('--act', '9');
    expect(await demo.end()).toBe(2);
    expect(demo.output()).toContain(
      '--act 9: there is no such act: give one of 2, 3, 4, 5, 6, 7, or edge, failover',
    );
  });
});
