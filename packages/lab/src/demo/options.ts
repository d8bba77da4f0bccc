// SPDX-License-Identifier: Apache-2.0
/** The demo's command line. */
import { parseArgs } from 'node:util';
import { describeError, Fault } from '@detour/core';

export interface DemoOptions {
  /** The lab's name; namespaces are called `dt-<name>-<ns>`. */
  readonly name: string;
  /** Leave everything running at the end. */
  readonly keep: boolean;
  /** Take down what an earlier run left running, and do nothing else. */
  readonly down: boolean;
  /** Only these acts, after the first; empty for the whole story. */
  readonly acts: readonly number[];
  /** Another story: `edge` (two tenants, a chain, an appliance) or `failover` (two gateways, of which one dies); null: the first one. */
  readonly other: OtherStory | null;
}

export const OTHER_STORIES = ['edge', 'failover'] as const;
export type OtherStory = (typeof OTHER_STORIES)[number];

export const usage = `usage: main.js [--keep] [--act N]… [--name NAME] | --act edge|failover [--keep] [--name NAME] | --down [--name NAME]
  --keep       leave the lab and the stack running, and print how to explore them
  --act N      only act N (2 to 7), after act 1; may be given several times
  --act edge   another story: two tenants of the same addresses, a chain of a firewall and an IDS, an appliance
  --act failover  another story: two gateways share their flows, and die one after the other
  --name NAME  name of the lab, default demo
  --down       take down what --keep left running`;

/** @throws Fault `invalid` naming the argument. */
export function parseOptions(argv: readonly string[], acts: readonly number[]): DemoOptions {
  const { keep, down, name, act } = parseFlags(argv);
  const other = OTHER_STORIES.find((story) => act.includes(story)) ?? null;
  if (other !== null && act.length > 1) throw new Fault('invalid', `--act ${other}: give it alone`);
  if (other !== null) return { name, keep, down, acts: [], other };
  const wanted = act.map((text) => {
    const number = Number(text);
    if (!acts.includes(number))
      throw new Fault(
        'invalid',
        `--act ${text}: there is no such act: give one of ${acts.join(', ')}, or ${OTHER_STORIES.join(', ')}`,
      );
    return number;
  });
  return { name, keep, down, acts: wanted, other };
}

function parseFlags(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        keep: { type: 'boolean', default: false },
        down: { type: 'boolean', default: false },
        name: { type: 'string', default: 'demo' },
        act: { type: 'string', multiple: true, default: [] },
      },
    }).values;
  } catch (error) {
    throw new Fault('invalid', describeError(error), error);
  }
}
