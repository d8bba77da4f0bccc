// SPDX-License-Identifier: Apache-2.0
/** What the demo reads from `detour get … -o json`, run as a process. */
import { Fault } from '@detour/core';
import type { Stack } from '../stack.js';

export interface FlowRow {
  readonly protocol: string;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  readonly action: string;
  readonly nodes: readonly string[];
  readonly decidedBy: string;
}

export interface ScoreRow {
  readonly node: string;
  readonly score: number | null;
  readonly fresh: boolean | null;
}

export interface SessionRow {
  readonly node: string;
  /** `up` only when control session and echo both are. */
  readonly health: string;
  readonly state: string;
  readonly remoteState: string;
  readonly echoUp: boolean;
  readonly txIntervalUs: number;
  readonly detectTimeUs: number;
  readonly why: string;
}

interface PathRow {
  readonly nodes: readonly string[];
  readonly gateways: readonly { readonly share: number }[];
}

interface AlarmRow {
  readonly code: string;
  readonly text: string;
}

export interface Detour {
  readonly stack: Stack;
  flows(): Promise<FlowRow[]>;
  /** Published scores by node; a node without one is left out. */
  scores(): Promise<Map<string, number>>;
  /** @throws Fault `not_found` when the node has no session. */
  session(node: string): Promise<SessionRow>;
  /** Share of new flows by node, 0 to 1, as the gateway selects now. */
  shares(): Promise<Map<string, number>>;
  alarms(): Promise<AlarmRow[]>;
  /** Runs a verb that prints for people. @throws Fault with what it said, when it does not exit with 0. */
  run(...args: readonly string[]): Promise<string>;
}

const flowLimit = 100_000;

export function openDetour(stack: Stack): Detour {
  const get = <T>(...args: readonly string[]): Promise<T> => stack.cliJson<T>(['get', ...args]);
  return {
    stack,
    flows: () => get<FlowRow[]>('flows', '--limit', String(flowLimit)),
    async scores() {
      const rows = await get<ScoreRow[]>('scores');
      return new Map(rows.flatMap(({ node, score }) => (score === null ? [] : [[node, score] as const])));
    },
    async session(node) {
      const [row] = await get<SessionRow[]>('sessions', '--node', node);
      if (row === undefined) throw new Fault('not_found', `bfd has no session with ${node}`);
      return row;
    },
    async shares() {
      const rows = await get<PathRow[]>('paths');
      return new Map(
        rows.map(({ nodes, gateways }) => [nodes.join(' → '), gateways[0]?.share ?? 0] as const),
      );
    },
    alarms: () => get<AlarmRow[]>('alarms'),
    async run(...args) {
      const { code, stdout, stderr } = await stack.cli(args);
      if (code !== 0)
        throw new Fault(
          'internal',
          `detour ${args.join(' ')}: exit code ${code}: ${(stderr || stdout).trim()}`,
        );
      return stdout;
    },
  };
}
