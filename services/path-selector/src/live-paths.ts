// SPDX-License-Identifier: Apache-2.0
/** The path table in force, expanded by each gateway's own health when it asks: the same function that the gateway itself runs. */
import { type ChainRow, OnNodeDown, type TableVersion } from '@detour/contracts';
import { type HashKey, hashKeyFromHex } from '@detour/core';
import type { Revision } from '@detour/intent';
import {
  type ExpandedChain,
  expandChain,
  heirsOf,
  type NodeState,
  type PathState,
  validateChains,
} from '@detour/tables';
import { buildPathTable } from './chain-rows.js';
import type { NodeFacts } from './node-worths.js';

/** A chain as one gateway sees it now. */
export interface LiveChain {
  readonly version: TableVersion;
  readonly row: ChainRow;
  readonly expanded: ExpandedChain;
  readonly keepsFlowsOfDownNodes: boolean;
  readonly secret: HashKey;
  /** State of a path by number; undefined for a path that the chain does not have. */
  readonly stateOf: (path: number) => NodeState | undefined;
  /**
   * Whether a path is up and has weight: a drained one has none. Of a chain whose tier in use is each gateway's to say, any tier's.
   */
  readonly mayTake: (path: number) => boolean;
  /** What a path that was chosen is worth in its chain, for people. */
  readonly whyChosen: (path: number) => string;
  /** The path by which the flows of one that is down go on; undefined: the hash chooses. */
  readonly heirOf: (path: number) => number | undefined;
  /** Names of a path's nodes that are not up, for people. */
  readonly notUp: (path: number) => string;
}

/** The table of one zone's gateways. */
interface ZoneTable {
  readonly rows: readonly ChainRow[];
  readonly byNumber: ReadonlyMap<number, ChainRow>;
}

interface Live {
  readonly version: TableVersion;
  readonly zoneOf: ReadonlyMap<string, string | null>;
  /** By zone; that of gateways without one is always there. */
  readonly tables: ReadonlyMap<string | null, ZoneTable>;
  readonly nodeNames: ReadonlyMap<number, string>;
  readonly secret: HashKey;
  readonly shortfalls: ReadonlyMap<string, string>;
}

/** Most gateways whose expansions are held; names come over the wire. */
const MAX_GATEWAYS = 1024;

export class LivePaths {
  #live: Live | null = null;
  #expanded = new Map<string, Map<number, LiveChain>>();

  /** `nodeState`: the state of a node, by name, as a gateway sees it. */
  constructor(private readonly nodeState: (gateway: string, node: string) => NodeState) {}

  get version(): TableVersion | null {
    return this.#live?.version ?? null;
  }

  /** As gateways without a zone have them: no node is far. */
  get rows(): readonly ChainRow[] {
    return this.#live?.tables.get(null)?.rows ?? [];
  }

  /** As a gateway has them: those of its zone. */
  rowsOf(gateway: string): readonly ChainRow[] {
    return this.#tableOf(gateway)?.rows ?? [];
  }

  /** What of the intent the table could not do as told, by chain. */
  get shortfalls(): ReadonlyMap<string, string> {
    return this.#live?.shortfalls ?? new Map();
  }

  /** Makes and checks the table of one version. A sentence if it may not be published: then the old one stays. */
  apply(revision: Revision, facts: NodeFacts, version: TableVersion): string | null {
    const zoneOf = new Map(revision.intent.gateways.map(({ name, zone }) => [name, zone ?? null]));
    const tables = new Map<string | null, ZoneTable>();
    let shortfalls: ReadonlyMap<string, string> = new Map();
    for (const zone of new Set([null, ...zoneOf.values()])) {
      const table = buildPathTable(revision, facts, zone);
      const valid = validateChains(table.rows);
      if (!valid.ok) return `${valid.row}: ${valid.why}`;
      const byNumber = new Map(table.rows.map((row) => [row.number, row]));
      tables.set(zone, { rows: table.rows, byNumber });
      shortfalls = table.shortfalls; // the same in every zone
    }
    this.#live = {
      version,
      zoneOf,
      tables,
      nodeNames: new Map(Object.entries(revision.numbers.nodes).map(([name, number]) => [number, name])),
      secret: hashKeyFromHex(revision.selectionKey),
      shortfalls,
    };
    this.#expanded.clear();
    return null;
  }

  /** A gateway's health changed: its expansions are made anew when it asks next. */
  forget(gateway: string): void {
    this.#expanded.delete(gateway);
  }

  /** A chain as a gateway sees it; a sentence when there is no such chain, or no table yet. */
  chainOf(gateway: string, chain: number): LiveChain | string {
    const held = this.#expanded.get(gateway)?.get(chain);
    if (held !== undefined) return held;
    const live = this.#live;
    if (live === null) return 'the path-selector has no revision of the intent yet';
    const row = this.#tableOf(gateway)?.byNumber.get(chain);
    if (row === undefined) return `chain ${chain} is not in revision ${live.version.revision}`;
    const made = this.#expand(gateway, row, live);
    const chains = this.#expanded.get(gateway) ?? new Map<number, LiveChain>();
    chains.set(chain, made);
    if (this.#expanded.size < MAX_GATEWAYS) this.#expanded.set(gateway, chains);
    return made;
  }

  #tableOf(gateway: string): ZoneTable | undefined {
    return this.#live?.tables.get(this.#live.zoneOf.get(gateway) ?? null);
  }

  #expand(gateway: string, row: ChainRow, { nodeNames, version, secret }: Live): LiveChain {
    const nameOf = (node: number) => nodeNames.get(node) ?? `node ${node}`;
    const stateOfNode = (node: number) => this.nodeState(gateway, nameOf(node));
    const expanded = expandChain(row, stateOfNode);
    const states = new Map(expanded.paths.map(({ path, state }) => [path, state]));
    const heirs = heirsOf(row.number, expanded.paths);
    const weights = new Map(
      row.paths.map((path) => [path.number, expanded.allStale ? path.fallbackWeight : path.weight]),
    );
    const worth = ({ path, weight }: PathState) => (row.keepsTier ? (weights.get(path) ?? 0) : weight);
    const open = new Set(
      expanded.paths.filter((path) => path.state === 'up' && worth(path) > 0).map(({ path }) => path),
    );
    const chosen = new Map(whyChosen(row, expanded));
    const members = new Map(row.paths.map(({ number, nodes }) => [number, nodes]));
    return {
      version,
      row,
      expanded,
      keepsFlowsOfDownNodes: row.onNodeDown === OnNodeDown.KEEP,
      secret,
      stateOf: (path) => states.get(path),
      mayTake: (path) => open.has(path),
      heirOf: (path) => heirs.get(path),
      whyChosen: (path) => chosen.get(path) ?? `path ${path} of chain ${row.name}`,
      notUp: (path) =>
        (members.get(path) ?? [])
          .filter((node) => stateOfNode(node) !== 'up')
          .map((node) => `${nameOf(node)} is ${stateOfNode(node)}`)
          .join(', '),
    };
  }
}

function whyChosen({ name }: ChainRow, { paths, allStale }: ExpandedChain): [number, string][] {
  const total = paths.reduce((sum, one) => sum + one.weight, 0);
  const how = allStale ? ' by declared capacity: no score is fresh' : '';
  return paths.map(({ path, weight }) => [
    path,
    `path ${path} of chain ${name}, weight ${weight} of ${total}${how}`,
  ]);
}
