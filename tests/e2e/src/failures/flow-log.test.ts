// SPDX-License-Identifier: Apache-2.0
// The flow log of a gateway whose datapath decides: real connections, a flood of openings beside them, a log file that is rotated.
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { standardAddresses, standardPorts, startRawSender, waitFor } from '@detour/lab';
import { buildFrame } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Rig, raiseRig } from './rig.js';

interface Line {
  readonly event: 'start' | 'change' | 'end' | 'left-out';
  readonly source: string;
  readonly sourcePort: number;
  readonly nodes: readonly string[];
  readonly verdict: string;
  readonly dropReason?: string;
  readonly endReason: string;
  readonly packetsForward: number;
  readonly packetsReverse: number;
  readonly bytesForward: number;
  readonly bytesReverse: number;
  readonly opening: number;
}

const PER_S = 20;
/** Ten seconds' worth at once, half of it for others. */
const MOST_OPENINGS = (PER_S * 10) / 2;
const FLOOD = 2_000;
const flood = { src: '10.1.0.77', dst: '203.0.113.99' }; // neither is there: nobody answers
const ends = { dstMac: '02:00:00:01:00:01', srcMac: '02:00:00:01:00:10', payload: new Uint8Array() };

const synOf = (srcPort: number) =>
  buildFrame({ ...ends, ...flood, transport: { kind: 'tcp', srcPort, dstPort: 80, flags: 0x02 } });

describe('the flow log', () => {
  const dir = mkdtempSync(join(tmpdir(), 'detour-flow-log-'));
  const file = join(dir, 'flows.json');
  let rig: Rig;
  beforeAll(async () => {
    const log = { DETOUR_FLOW_LOG: file, DETOUR_FLOW_LOG_RATE: `${PER_S}`, DETOUR_SWEEP_EVERY: '500ms' };
    rig = await raiseRig('fail-flow-log', {
      ...{ datapathDecides: true, env: (service) => (service === 'tunnel-gw' ? log : {}) },
    });
  });
  afterAll(async () => {
    await rig?.[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  const linesOf = (path = file): Line[] =>
    (existsSync(path) ? readFileSync(path, 'utf8') : '')
      .split('\n')
      .slice(0, -1) // the last one may be on its way
      .map((line) => JSON.parse(line) as Line);
  const about = (port: number) => linesOf().filter(({ sourcePort }) => sourcePort === port);
  const until = (what: string, check: () => boolean, timeoutMs = 60_000) =>
    waitFor(async () => check(), { what, timeoutMs, everyMs: 100 });
  const metric = async (name: string): Promise<number> => {
    const text = await rig.stack.metrics('tunnel-gw');
    return Number(new RegExp(`^${name}[^}]*\\} (\\d+)`, 'm').exec(text)?.[1] ?? 0);
  };

  it('has one start and one end of each connection, as it was; a flood of openings is counted, and pushes out none of them', async () => {
    await using sender = startRawSender(rig.lab, 'client', 'eth0');
    const answers = await Promise.all(Array.from({ length: 5 }, () => rig.get()));
    const ports = answers.map((answer) => (answer.ok ? answer.localPort : expect.fail('no answer')));
    const rows = (await rig.flows()).filter(({ tuple }) => ports.includes(tuple?.sport ?? 0));
    expect(rows).toHaveLength(5);
    await sender.send(Array.from({ length: FLOOD }, (_, i) => synOf(10_000 + i)));
    await until('starts of all', () => ports.every((port) => about(port).length === 1));

    await until('ends of all', () => ports.every((port) => about(port).length === 2));
    for (const row of rows) {
      const port = row.tuple?.sport ?? 0;
      expect(about(port)).toMatchObject([
        { event: 'start', verdict: 'steer', nodes: row.nodes },
        {
          ...{ event: 'end', verdict: 'steer', endReason: 'fin', nodes: row.nodes },
          ...{ source: standardAddresses.client, packetsForward: Number(row.packetsForward) },
          ...{ packetsReverse: Number(row.packetsReverse), bytesForward: Number(row.bytesForward) },
          bytesReverse: Number(row.bytesReverse),
        },
      ]);
    }
    await until('every opening to be told of or counted', () => {
      const lines = linesOf();
      const told = lines.filter(({ source }) => source === flood.src).length;
      const leftOut = lines.filter(({ event }) => event === 'left-out').at(-1)?.opening ?? 0;
      return told + leftOut === FLOOD;
    });
    const openings = linesOf().filter(({ source }) => source === flood.src);
    expect(openings.length).toBeLessThanOrEqual(MOST_OPENINGS + 40 * PER_S);
    expect(openings[0]).toMatchObject({ event: 'end', endReason: 'unanswered', packetsForward: 1 });
    expect(await metric('detour_flow_log_left_out_total\\{what="opening"')).toBe(FLOOD - openings.length);
    expect(await metric('detour_flow_log_lines_total\\{event="start"')).toBeGreaterThanOrEqual(5);
  });

  it('goes on in a new file once the old one was renamed', async () => {
    renameSync(file, `${file}.1`);
    const before = linesOf(`${file}.1`).length;
    const answer = await rig.get();
    const port = answer.ok ? answer.localPort : expect.fail('no answer');
    await until('the start in the new file', () => about(port).length === 1);
    expect(linesOf(`${file}.1`)).toHaveLength(before);
  });

  it('and get flows are filtered by the gateway; what a limit leaves out is said', async () => {
    const remote = { address: standardAddresses.server, port: standardPorts.echo };
    const connections = await rig.client.openTcp({
      ...{ count: 12, localAddresses: [standardAddresses.client], remote, intervalMs: 100 },
    });
    expect(connections.opened).toBe(12);
    const rows = (await rig.flows()).filter(({ nodes }) => nodes.includes('fw1'));
    expect(rows.length).toBeGreaterThan(1);
    const path = rows[0]?.path ?? 0;
    const all = ['get', 'flows', '--node', 'fw1', '--path', `${path}`, '--vrf', 'red', '--chain', 'inspect'];
    const shown = await rig.stack.cliJson<{ nodes: string[]; path: number }[]>(all);
    expect(new Set(shown.map((row) => `${row.nodes} ${row.path}`))).toEqual(new Set([`fw1 ${path}`]));
    expect(shown.length).toBeGreaterThanOrEqual(rows.filter(({ established }) => established).length);
    const { code, stdout, stderr } = await rig.stack.cli([...all, '--limit', '1', '-o', 'json']);
    expect([code, JSON.parse(stdout)]).toEqual([0, [expect.objectContaining({ path })]]);
    expect(stderr).toMatch(/^detour: edge1: \d+ more flows match and are not shown/);
    expect(await rig.stack.cliJson(['get', 'flows', '--vrf', 'blue'])).toEqual([]);
    await connections.close();
  });
});
