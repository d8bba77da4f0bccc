// SPDX-License-Identifier: Apache-2.0
/** The flags of `detour node`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Console } from '../console.js';
import { FORMATS, type Format } from '../render.js';
import { attach, nodeStatus } from './commands.js';
import type { AttachFlags } from './config.js';

function readWhole(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new InvalidArgumentError('give a whole number');
  return Number(text);
}

function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** Adds `node attach` and `node status`; `done` is told the exit code. */
export function addServiceNodeCommands(
  program: Command,
  console: Console,
  done: (code: number) => void,
): void {
  const node = program
    .command('node')
    .description('on a service node: attach it to its gateways, and ask how that stands');
  node
    .command('attach')
    .description('give this machine an interface pair to filter between; runs until it is stopped')
    .option('--config <file>', 'all of it as YAML; - for standard input. Else by flags:')
    .option('--node <name>', 'the node’s name in the intent')
    .option('--device <device>', 'underlay device')
    .option('--address <address>', 'underlay address, the attach’s remote in the intent')
    .addOption(new Option('--kind <kind>', 'how it is attached').choices(['tunnel', 'gwlb']))
    .addOption(new Option('--protocol <protocol>', 'of a tunnel').choices(['geneve', 'vxlan', 'gre']))
    .option('--vni <vni>', 'of Geneve and VXLAN', readWhole)
    .option('--key <key>', 'of GRE', readWhole)
    .addOption(new Option('--inner <inner>', 'what is inside').choices(['l2', 'l3']))
    .option(
      '--gateway <address[,local,peer]>',
      'underlay address; inner addresses of node and gateway. Repeatable',
      collect,
    )
    .option('--in <device>', 'the side where packets of who began a flow come out, default NODE-in')
    .option('--out <device>', 'the other side, default NODE-out')
    .option('--mtu <bytes>', 'of the pair, default what the underlay leaves, 1500 at most', readWhole)
    .addOption(
      new Option(
        '--forward <how>',
        'route: routed from side to side; bridge: left to a bridge or an inline IPS',
      ).choices(['route', 'bridge']),
    )
    .option('--tcp-port <port>', 'answer the TCP checks of a health profile', readWhole)
    .option('--report <address>', 'report attributes to stats-collector there, as host:port')
    .action(async (flags: AttachFlags) => done(await attach(console, flags)));
  node
    .command('status')
    .description('up, or why not')
    .option('--node <name>', 'only this one')
    .addOption(new Option('-o, --output <format>', 'how to show it').choices(FORMATS).default('table'))
    .action(async (flags: { node?: string; output: Format }) => done(await nodeStatus(console, flags)));
}
