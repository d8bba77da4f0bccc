// SPDX-License-Identifier: Apache-2.0
/**
 * rows: a gateway of 50 VRFs with 200 VTIs and 1,000 (VRF, pair) rows, VLANs on two devices: how long `detour apply --wait` takes, and what it costs.
 *
 * rows.apply[200 VTIs]   from a gateway with two ports to one with 200 VTIs as well
 * rows.apply[1k rows]    then to one with the rows as well
 * rows.apply[one row]    one row of the 1,000 changed
 * rows.user, rows.kernel bytes that one VTI, and one row, add to tunnel-gw's resident memory, and to the kernel's (slabs, per-CPU and vmalloc memory: mostly
 *                        devices; the datapath's maps have their full size from the start, see `memory`)
 * rows.gone              all of it removed, until the last of its devices is gone; the next revision waits for that. In the last round only
 *
 * Every round has a lab and a stack of its own, and begins with two ports: memory that was once needed may stay.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { Fault } from '@detour/core';
import type { IntentDocument } from '@detour/intent';
import { createLab, type Lab, type Stack, startStack, waitFor } from '@detour/lab';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { manyRowsIntent, manyRowsLab, ROWS, VTIS } from './many-rows-intent.js';

const APPLY_MS = 120_000;
const GONE_MS = 180_000;
/** Of the machine, whatever the namespace: two next hops of a row, and as many that ask for ours. */
const NEIGHBOURS = '/proc/sys/net/ipv4/neigh/default/gc_thresh';
const ROOM = 5 * ROWS;

export const manyRows: Benchmark = {
  name: 'rows',
  what: '200 VTIs and 1,000 (VRF, pair) rows: time to apply, memory',
  run: async (context) => {
    const leave = makeRoomForNeighbours();
    try {
      const rounds: Round[] = [];
      for (let round = 1; round <= context.rounds; round++) rounds.push(await measureRound(context, round));
      return figuresOf(rounds);
    } finally {
      leave();
    }
  },
};

/** Makes room in the kernel's neighbour table, as operators of so many rows have to; returns what puts it back. */
function makeRoomForNeighbours(): () => void {
  const before = [1, 2, 3].map((n) => readFileSync(`${NEIGHBOURS}${n}`, 'utf8'));
  const set = (values: readonly string[]): void =>
    values.forEach((value, i) => {
      writeFileSync(`${NEIGHBOURS}${i + 1}`, value);
    });
  set(before.map((value) => String(Math.max(Number(value), ROOM))));
  return () => set(before);
}

interface Memory {
  readonly user: number;
  readonly kernel: number;
  readonly links: number;
}

/** Milliseconds, and what there was before, with the VTIs, and with the rows as well. */
interface Round {
  readonly vtis: number;
  readonly rows: number;
  readonly change: number;
  readonly memory: readonly [Memory, Memory, Memory];
  /** Until the devices of all are gone; in the last round. */
  readonly gone?: number;
}

async function measureRound(context: BenchContext, round: number): Promise<Round> {
  const step = (what: string): void => {
    context.signal.throwIfAborted();
    context.progress.step(`rows: round ${round} of ${context.rounds}, ${what}`);
  };
  step('raising the lab and the stack');
  await using lab = await createLab(manyRowsLab(), { name: 'bench-rows' });
  await using stack = await startStack(lab, { logLevel: 'warn' });
  await apply(stack, manyRowsIntent({}));
  const bare = await memoryNow(lab, stack);
  step('VTIs');
  const vtis = await apply(stack, manyRowsIntent({ vtis: VTIS }));
  const withVtis = await memoryNow(lab, stack);
  step('rows');
  const rows = await apply(stack, manyRowsIntent({ vtis: VTIS, rows: ROWS }));
  const withRows = await memoryNow(lab, stack);
  step('one row');
  const change = await apply(stack, manyRowsIntent({ vtis: VTIS, rows: ROWS, changed: 7 }));
  const measured = { vtis, rows, change, memory: [bare, withVtis, withRows] as const };
  if (round < context.rounds || !context.wants('rows.gone')) return measured;
  step('all removed');
  const from = performance.now();
  await apply(stack, manyRowsIntent({}));
  await waitFor(async () => (await memoryNow(lab, stack)).links === bare.links, {
    ...{ what: 'the devices of VTIs and rows to be gone', timeoutMs: GONE_MS, everyMs: 250 },
  });
  return { ...measured, gone: performance.now() - from };
}

function figuresOf(rounds: readonly Round[]): Figure[] {
  const ms = (what: string, pick: (round: Round) => number): Figure =>
    valueFigure({ name: `rows.apply[${what}]`, unit: 'ms', values: rounds.map(pick) });
  const gone = rounds.flatMap((round) => round.gone ?? []);
  return [
    ms('200 VTIs', ({ vtis }) => vtis),
    ms('1k rows', ({ rows }) => rows),
    ms('one row', ({ change }) => change),
    ...(gone.length > 0 ? [valueFigure({ name: 'rows.gone', unit: 'ms', values: gone })] : []),
    bytes('rows.user[two ports]', rounds, ({ memory: [bare] }) => bare.user),
    ...added('VTI', rounds, ({ memory: [from, to] }) => [from, to, VTIS]),
    ...added('row', rounds, ({ memory: [, from, to] }) => [from, to, ROWS]),
  ];
}

function bytes(name: string, rounds: readonly Round[], pick: (round: Round) => number): Figure {
  const figure = valueFigure({ name, unit: 'B', values: rounds.map(pick) });
  return { ...figure, value: Math.round(figure.value) };
}

function added(
  what: string,
  rounds: readonly Round[],
  pick: (round: Round) => readonly [Memory, Memory, number],
): Figure[] {
  const each = (of: 'user' | 'kernel'): Figure =>
    bytes(`rows.${of}[${what}]`, rounds, (round) => {
      const [from, to, count] = pick(round);
      return (to[of] - from[of]) / count;
    });
  return [each('user'), each('kernel')];
}

/** Milliseconds until the gateway runs it. */
async function apply(stack: Stack, document: IntentDocument): Promise<number> {
  const from = performance.now();
  const { code, stdout, stderr } = await stack.cli(
    ['apply', '-f', '-', '--wait', '--timeout', `${APPLY_MS}ms`],
    { input: JSON.stringify(document), timeoutMs: APPLY_MS + 5_000 },
  );
  if (code !== 0) throw new Fault('internal', `detour apply: exit code ${code}: ${stderr || stdout}`);
  return performance.now() - from;
}

async function memoryNow(lab: Lab, stack: Stack): Promise<Memory> {
  const kilobytes = (path: string, name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(path, 'utf8'))?.[1]);
  const { stdout } = await lab.exec('edge1', ['ip', '-br', 'link']);
  return {
    user: kilobytes(`/proc/${stack.process('tunnel-gw').pid}/status`, 'VmRSS') * 1024,
    kernel:
      ['Slab', 'Percpu', 'VmallocUsed'].reduce((sum, name) => sum + kilobytes('/proc/meminfo', name), 0) *
      1024,
    links: stdout.trim().split('\n').length,
  };
}
