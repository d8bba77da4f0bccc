// SPDX-License-Identifier: Apache-2.0
/** What every `detour get` resource is made of: rows from the intent, from the state bucket, or from running gateways. */
import type { Revision } from '@detour/intent';
import type { Cluster } from './cluster.js';
import type { View } from './render.js';

/** Filters of `get`; each resource uses those that it has. */
export interface Filters {
  readonly gateway?: string;
  readonly node?: string;
  readonly path?: string;
  readonly chain?: string;
  readonly vrf?: string;
  readonly address?: string;
  readonly limit?: number;
  readonly revision?: number;
  /** The node whose score is to be explained. */
  readonly explain?: string;
}

/** What a resource needs to answer. */
export interface Query {
  readonly cluster: Cluster;
  readonly filters: Filters;
  /** The revision in force; null before the first apply. */
  readonly current: Revision | null;
}

/** A view, and what could not be asked for it. */
export interface Answer {
  readonly view: View;
  readonly missing: readonly string[];
  /** What somebody who reads it must know, though nothing is amiss. */
  readonly notes?: readonly string[];
}

export interface Resource {
  readonly summary: string;
  /** Which filters it takes. */
  readonly filters: readonly (keyof Filters)[];
  load(query: Query): Promise<Answer>;
}

/** Names by number: what tables and packets carry → what people call it. */
export function nameOf(numbers: Readonly<Record<string, number>> | undefined, number: number): string {
  return Object.entries(numbers ?? {}).find(([, value]) => value === number)?.[0] ?? String(number);
}
