// SPDX-License-Identifier: Apache-2.0
/** A node that `detour node attach` serves, seen from its gateway, its filter and the client of the standard lab; and the documents of its page. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  type Lab,
  type Stack,
  standardAddresses,
  standardIntent,
  standardPorts,
  startTraffic,
  waitFor,
} from '@detour/lab';
import { parse } from 'yaml';

interface NodeRow {
  readonly name: string;
  readonly gateways: readonly { readonly health: string; readonly why: string }[];
}

export interface AttachedSpec {
  readonly lab: Lab;
  readonly stack: Stack;
  /** Of the node in the intent. */
  readonly node: string;
  /** Namespace whose table `inet firewall` has the filter's counters. */
  readonly filter: string;
}

export type AttachedView = ReturnType<typeof viewAttached>;

export function viewAttached({ lab, stack, node, filter }: AttachedSpec) {
  const client = startTraffic(lab, 'client');
  return {
    client,
    /** Applies a document; it must be taken. */
    async apply(intent: object): Promise<void> {
      const applied = await stack.cli(['apply', '-f', '-', '--wait', '--timeout', '30s'], {
        input: JSON.stringify(intent),
      });
      if (applied.code !== 0) throw new Error(`apply ended with ${applied.code}: ${applied.stderr}`);
    },
    /** Resolves when the gateway says that of the node. */
    gatewaySees: (health: string, why = '') =>
      waitFor(
        async () => {
          const rows = await stack.cliJson<NodeRow[]>(['get', 'nodes']);
          const seen = rows.find(({ name }) => name === node)?.gateways[0];
          return seen?.health === health && seen.why.includes(why);
        },
        { what: `${node} to be ${health} ${why} at the gateway`, timeoutMs: 30_000, everyMs: 200 },
      ),
    /** Of the gateway, by reason. */
    async drops(): Promise<Record<string, number>> {
      const rows = await stack.cliJson<{ reason: string; packets: number }[]>(['get', 'drops']);
      return Object.fromEntries(rows.map(({ reason, packets }) => [reason, packets]));
    },
    get: (
      port: number = standardPorts.http[0],
      timeoutMs = 5_000,
      address: string = standardAddresses.server,
    ) => client.httpGet({ remote: { address, port }, path: '/', timeoutMs }),
    /** Packets that a counter of the filter has. */
    async counter(name: string): Promise<number> {
      const { stdout } = await lab.exec(filter, ['nft', '-j', 'list', 'counter', 'inet', 'firewall', name]);
      const { nftables } = JSON.parse(stdout) as { nftables: { counter?: { packets: number } }[] };
      return nftables.find((row) => row.counter !== undefined)?.counter?.packets ?? 0;
    },
    /** From now on the filter lets nothing through, or goes on. */
    blocked: (on: boolean) =>
      lab.exec(filter, ['nft', '-f', '-'], {
        input: on
          ? 'table inet blocked {\n chain forward {\n type filter hook forward priority -400; policy drop;\n }\n}\n'
          : 'add table inet blocked\ndelete table inet blocked\n',
      }),
  };
}

const pages = fileURLToPath(new URL('../../../docs/', import.meta.url));

/** Fenced blocks of one kind on a page of docs/, in their order. */
export function blocksOf(page: string, kind: string): string[] {
  const text = readFileSync(pages + page, 'utf8');
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, its, block]) =>
    its === kind && block !== undefined ? [block] : [],
  );
}

/** What docs/attach-a-node.md gives `detour node attach` for a node. @throws Error when the page has none of that name */
export function nodeDocument(name: string): { readonly node: string; readonly [key: string]: unknown } {
  const found = blocksOf('attach-a-node.md', 'node')
    .map((block) => parse(block))
    .find(({ node }) => node === name);
  if (found === undefined) throw new Error(`docs/attach-a-node.md has no document for ${name}`);
  return found;
}

/** The standard lab's intent with this one node. */
export function intentOf(
  node: {
    readonly name: string;
    readonly attach: object;
    readonly health?: string;
    readonly attributes?: object;
  },
  profile: object = {},
) {
  const standard = standardIntent({ firewalls: 1 });
  return {
    ...standard,
    healthProfiles: [
      ...(standard.healthProfiles ?? []),
      { name: 'own', bfd: { echo: { everyMs: 100, multiplier: 4 } }, ...profile },
    ],
    nodes: [{ service: 'firewall', health: 'fast', maxConnections: 50_000, ...node }],
  };
}
