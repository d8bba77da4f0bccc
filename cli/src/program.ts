// SPDX-License-Identifier: Apache-2.0
/** The command line: which commands and flags there are, and what they call. */
import { withSpan } from '@detour/telemetry';
import { Command, InvalidArgumentError, Option } from 'commander';
import { drain, get, session, status, trace } from './cluster-commands.js';
import type { Console } from './console.js';
import { apply, check, diff, rollback } from './document-commands.js';
import { drainGateway } from './drain-gateway.js';
import { EXIT } from './exit-codes.js';
import { addServiceNodeCommands } from './node/flags.js';
import { FORMATS, type Format } from './render.js';
import type { Filters } from './resource.js';
import { RESOURCES } from './resources.js';

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function readDuration(text: string): number {
  const match = /^(\d{1,6})(ms|s|m|h)$/.exec(text);
  if (match === null) throw new InvalidArgumentError('give a number and a unit, such as 500ms, 30s or 2m');
  return Number(match[1]) * (UNITS_MS[match[2] ?? ''] ?? 1);
}

/** Reads a whole number within bounds. */
function readInteger(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d{1,10}$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`give a whole number from ${min} to ${max}`);
    return value;
  };
}

/** The number of a path, as text. */
function readPath(text: string): string {
  return String(readInteger(1, 2 ** 23 - 1)(text));
}

const output = (): Option =>
  new Option('-o, --output <format>', 'how to show it').choices(FORMATS).default('table');
const file = (): Option =>
  new Option('-f, --file <file>', 'the intent document; - for standard input').makeOptionMandatory();
const partial = (): Option =>
  new Option('--partial', 'leave out rows with problems, and name them').default(false);
const timeout = (text = 'with --wait: give up after this'): Option =>
  new Option('--timeout <duration>', text).argParser(readDuration).default(30_000, '30s');
const gateway = (): Option => new Option('--gateway <name>', 'only this gateway');

interface Flags {
  readonly file: string;
  readonly partial: boolean;
  readonly wait: boolean;
  readonly timeout: number;
  readonly output: Format;
  readonly gateway?: string;
}

function addDocumentCommands(program: Command, console: Console, done: (code: number) => void): void {
  const runs = (act: (flags: Flags) => Promise<number>) => async (flags: Flags) => done(await act(flags));
  program
    .command('check')
    .description('check an intent document; needs no cluster')
    .addOption(file())
    .addOption(partial())
    .addOption(output())
    .action(runs((flags) => check(console, flags)));
  program
    .command('diff')
    .description('show what apply would change')
    .addOption(file())
    .addOption(partial())
    .addOption(output())
    .action(runs((flags) => diff(console, flags)));
  program
    .command('apply')
    .description('put an intent document in force, whole or not at all')
    .addOption(file())
    .option('--wait', 'return when every gateway runs the new revision', false)
    .addOption(timeout())
    .addOption(partial())
    .addOption(output())
    .action(
      runs((flags) =>
        withSpan('detour apply', {}, () => apply(console, { ...flags, timeoutMs: flags.timeout })),
      ),
    );
  program
    .command('rollback')
    .description('put the document of an earlier revision in force, as a new revision')
    .argument('<revision>', 'its number; see detour get revisions', readInteger(1, 2 ** 31 - 1))
    .option('--wait', 'return when every gateway runs the new revision', false)
    .addOption(timeout())
    .addOption(output())
    .action(async (revision: number, flags: Flags) => {
      const options = { ...flags, timeoutMs: flags.timeout, revision };
      done(await withSpan('detour rollback', {}, () => rollback(console, options)));
    });
}

function addGetCommand(program: Command, console: Console, done: (code: number) => void): void {
  const width = Math.max(...Object.keys(RESOURCES).map((name) => name.length));
  const listed = Object.entries(RESOURCES).map(
    ([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`,
  );
  program
    .command('get')
    .description('show what is declared, and what runs')
    .argument('<resource>', Object.keys(RESOURCES).join('|'))
    .addOption(output())
    .addOption(gateway())
    .option('--node <name>', 'only what has to do with this node')
    .option('--chain <name>', 'only of this chain')
    .option('--path <number>', 'only flows of this path; see detour get paths', readPath)
    .option('--vrf <name>', 'only flows of this VRF')
    .option('--address <address>', 'only flows with this end')
    .option('--limit <count>', 'at most so many', readInteger(1, 1_000_000))
    .option('--explain <node>', 'how the score of this node comes about')
    .option('--revision <number>', 'the intent of this revision', readInteger(1, 2 ** 31 - 1))
    .addHelpText('after', `\nResources:\n${listed.join('\n')}`)
    .action(async (resource: string, flags: Filters & { output: Format }) => {
      const { output: format, ...filters } = flags;
      done(await get(console, resource, { filters, output: format }));
    });
}

interface TraceFlags extends Flags {
  readonly port: string;
  readonly src: string;
  readonly dst: string;
  readonly proto: string;
  readonly sport: number;
  readonly dport: number;
  readonly syn: boolean;
  readonly length: number;
  readonly ttl: number;
}

function addTraceCommand(program: Command, console: Console, done: (code: number) => void): void {
  const portNumber = readInteger(0, 65_535);
  program
    .command('trace')
    .description('show the way that a packet would take through a gateway, step by step')
    .option('--gateway <name>', 'the gateway; needed where there are several')
    .requiredOption('--port <name>', 'where it enters: a port, or a node for a packet that the node returns')
    .requiredOption('--src <address>', 'source address')
    .requiredOption('--dst <address>', 'destination address')
    .option('--proto <protocol>', 'tcp, udp, icmp, … or a number', 'tcp')
    .option('--sport <port>', 'source port', portNumber, 40_000)
    .option('--dport <port>', 'destination port', portNumber, 0)
    .option('--no-syn', 'a TCP packet in the middle of a connection')
    .option('--length <bytes>', 'length from the IP header on', readInteger(20, 65_535), 60)
    .option('--ttl <ttl>', 'time to live', readInteger(1, 255), 64)
    .addOption(output())
    .action(async (flags: TraceFlags) => done(await trace(console, flags)));
}

function addNodeCommands(program: Command, console: Console, done: (code: number) => void): void {
  for (const [name, draining, text] of [
    ['drain', true, 'give a node no new flows; old ones finish. Outlives apply and restarts'],
    ['undrain', false, 'give a node new flows again'],
  ] as const)
    program
      .command(name)
      .description(text)
      .argument('<node>')
      .addOption(output())
      .action(async (node: string, flags: Flags) =>
        done(await drain(console, node, { draining, output: flags.output })),
      );
  for (const [name, draining, text] of [
    [
      'drain-gateway',
      true,
      'have routers leave a gateway; returns when nothing arrives there any more. Outlives apply and restarts',
    ],
    ['undrain-gateway', false, 'have routers use a gateway again'],
  ] as const) {
    const command = program.command(name).description(text).argument('<gateway>');
    if (draining) command.option('--alone', 'also where no other gateway serves', false);
    command
      .option('--no-wait', 'return at once')
      .addOption(timeout('give up waiting after this; the drain stays as asked'))
      .addOption(output())
      .action(async (gateway: string, flags: Flags & { alone?: boolean }) => {
        const { alone = false, wait, timeout: timeoutMs, output: format } = flags;
        done(await drainGateway(console, gateway, { draining, alone, wait, timeoutMs, output: format }));
      });
  }
  program
    .command('session')
    .description('take a session with a node down or up by hand')
    .argument('<id>', 'see detour get sessions')
    .argument('<state>', 'admin-down|up', (text) => {
      if (text !== 'admin-down' && text !== 'up') throw new InvalidArgumentError('give admin-down or up');
      return text;
    })
    .addOption(gateway())
    .addOption(output())
    .action(async (id: string, state: string, flags: Flags) => {
      const at = flags.gateway === undefined ? {} : { gateway: flags.gateway };
      done(await session(console, id, { adminDown: state === 'admin-down', output: flags.output, ...at }));
    });
  program
    .command('status')
    .description('what runs, what is in force where, and what is wrong')
    .addOption(output())
    .action(async (flags: Flags) => done(await status(console, flags)));
}

/** The program; `done` is told the exit code of the command that ran. */
export function makeProgram(console: Console, done: (code: number) => void): Command {
  const program = new Command('detour')
    .description('Steers chosen traffic through service nodes and back.')
    .showSuggestionAfterError()
    .showHelpAfterError('(see detour --help, detour COMMAND --help)')
    .exitOverride()
    .configureOutput({ writeOut: (text) => console.out(text), writeErr: (text) => console.err(text) })
    .addHelpText(
      'after',
      `
Environment:
  DETOUR_NATS    where NATS is, default nats://127.0.0.1:4222
  DETOUR_AUTHOR  who changes things, default user@host
  DETOUR_OTLP    OpenTelemetry collector that gets the trace of an apply, default none

Exit codes:
${exitCodeLines()}`,
    );
  addDocumentCommands(program, console, done);
  addGetCommand(program, console, done);
  addTraceCommand(program, console, done);
  addNodeCommands(program, console, done);
  addServiceNodeCommands(program, console, done);
  return program;
}

/** What each exit code means. */
export const EXIT_MEANINGS: readonly (readonly [code: number, meaning: string])[] = [
  [EXIT.ok, 'done'],
  [EXIT.failed, 'failed'],
  [EXIT.usage, 'wrong arguments, flags or environment'],
  [EXIT.document, 'the intent document is refused'],
  [EXIT.conflict, 'somebody else changed the intent first'],
  [EXIT.unavailable, 'NATS or a service does not answer'],
  [
    EXIT.refused,
    'a gateway refused the revision, or a service what it was asked; the last gateway is not drained',
  ],
  [EXIT.timeout, 'not done by --timeout: a gateway does not run the revision, or still gets packets'],
  [EXIT.notFound, 'what was named does not exist'],
  [EXIT.degraded, 'status: something is missing, or an alarm is raised; node status: not up'],
  [EXIT.interrupted, 'interrupted'],
];

function exitCodeLines(): string {
  return EXIT_MEANINGS.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`).join('\n');
}
