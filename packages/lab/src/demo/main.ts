// SPDX-License-Identifier: Apache-2.0
/**
 * The demo. In: flags (options.ts), root. Out: the story, a line for each step; exit code 0 if every step held, 1 if one
 * did not, 2 for wrong flags, 130 after Ctrl-C. State: a lab, removed at the end unless `--keep`.
 */
import { fileURLToPath } from 'node:url';
import { describeError, Fault } from '@detour/core';
import { reapDeadLabs } from '../reap.js';
import { playEdge } from './edge/play.js';
import { raiseEdgeStage } from './edge/stage.js';
import { exploreText } from './explore.js';
import { playFailover } from './failover/play.js';
import { raiseFailoverStage } from './failover/stage.js';
import { makeNarrator } from './narrator.js';
import { type DemoOptions, parseOptions, usage } from './options.js';
import { raiseStage, type Stage } from './stage.js';
import { story } from './story.js';

const exit = { held: 0, failed: 1, usage: 2, interrupted: 130 } as const;
const logsOfFailure = fileURLToPath(new URL('../../../../build/demo-logs', import.meta.url));

const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (!interrupt.signal.aborted) tell.line(`\n${signal}: ending, and taking everything down`);
    interrupt.abort(new Fault('timeout', `interrupted by ${signal}`));
  });
}
process.stdout.on('error', () => interrupt.abort(new Fault('unavailable', 'nobody reads any more')));
const tell = makeNarrator(process.stdout, interrupt.signal);

try {
  const options = parseOptions(
    process.argv.slice(2),
    story.slice(1).map(({ number }) => number),
  );
  process.exitCode = options.down ? await takeDown(options.name) : await playStory(options);
} catch (error) {
  console.error(`${describeError(error)}\n${usage}`);
  process.exitCode = exit.usage;
}

/** What both stories are played on, as far as their ends go. */
interface AnyStage extends Pick<Stage, 'lab' | 'stack' | 'saveLogs'> {
  /** By which the client's packets enter. */
  readonly port: string;
  /** Run by the demo itself: closed where the lab is kept. */
  readonly agents: readonly { close(): Promise<void> }[];
}

async function playStory(options: DemoOptions): Promise<number> {
  const { signal } = interrupt;
  const startMs = performance.now();
  let stage: AnyStage | undefined;
  let code: number = exit.held;
  try {
    if (options.other === 'failover') {
      const failover = await raiseFailoverStage(options.name, tell, signal);
      stage = { ...failover, port: 'inside', agents: [failover.traffic] };
      await playFailover(failover, tell);
    } else if (options.other === 'edge') {
      const edge = await raiseEdgeStage(options.name, tell, signal);
      stage = {
        ...edge,
        port: 'inside-red',
        agents: [edge.red, edge.blue, { close: async () => await edge.appliance[Symbol.asyncDispose]() }],
      };
      await playEdge(edge, tell);
    } else {
      const standard = await raiseStage(options.name, tell, signal);
      stage = { ...standard, port: 'inside', agents: [standard.traffic, standard.otlp] };
      await playActs(standard, options.acts);
    }
    tell.line(`\nEvery step held, after ${Math.round((performance.now() - startMs) / 1_000)} s.`);
  } catch (error) {
    code = signal.aborted ? exit.interrupted : exit.failed;
    if (!signal.aborted) await tellFailure(stage, error);
  }
  if (stage !== undefined) await leave(stage, options.keep && !signal.aborted);
  return code;
}

async function playActs(stage: Stage, wanted: readonly number[]): Promise<void> {
  const [first, ...others] = story;
  const acts = others.filter(({ number }) => wanted.length === 0 || wanted.includes(number));
  for (const act of [first, ...acts]) {
    tell.act(act.number, act.title);
    await act.play(stage, tell);
  }
}

async function tellFailure(stage: AnyStage | undefined, error: unknown): Promise<void> {
  tell.line(`\nIt ends here: ${describeError(error)}`);
  if (stage === undefined) return;
  stage.saveLogs(logsOfFailure);
  tell.line(`The logs of all processes are in ${logsOfFailure}.`);
  for (const args of [['status'], ['get', 'drops'], ['get', 'sessions']]) {
    tell.line(`detour ${args.join(' ')}:`);
    const { stdout, stderr } = await stage.stack.cli(args);
    tell.show(`${stdout}${stderr}`);
  }
}

async function leave(stage: AnyStage, keep: boolean): Promise<void> {
  if (!keep) {
    await tell.during('taking everything down', () => stage.lab.close());
    return;
  }
  await Promise.all(stage.agents.map((agent) => agent.close()));
  stage.lab.keep();
  tell.line(exploreText(stage));
}

async function takeDown(name: string): Promise<number> {
  const removed = await reapDeadLabs(undefined, { alsoKept: name });
  tell.line(removed.includes(name) ? `${name} is taken down` : `no lab ${name} was left running`);
  return exit.held;
}
