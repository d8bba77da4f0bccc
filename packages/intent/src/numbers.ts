// SPDX-License-Identifier: Apache-2.0
/**
 * The numbers by which tables and packets call what the intent calls by name.
 *
 * A name keeps its number from revision to revision. The number of a name that is gone rests until no flow that saw it can
 * still be alive: the longest idle timeout of any chain, then and now. A name that comes back while its number rests gets it again,
 * so that rolling back restores the same tables. All of it is a pure function of the intent, the previous numbers and the time.
 */
import { z } from 'zod';
import { NUMBER_LIMITS } from './limits.js';
import type { Intent } from './schema.js';
import { steeredChains } from './steered-chains.js';
import { chainKey, nodeKey, pathKey, policyKey, vrfsOfNode } from './topology.js';

const kinds = ['vrfs', 'services', 'nodes', 'chains', 'paths', 'rules', 'policies', 'ports'] as const;
/** What is numbered. */
export type NumberKind = (typeof kinds)[number];

const byKey = z.record(z.string(), z.int().positive());

export const numbersSchema = z.strictObject({
  vrfs: byKey,
  services: byKey,
  /** Key: `nodeKey(node, vrf)`. */
  nodes: byKey,
  /** Key: `chainKey(chain, vrf)`; of a chain with a level, `chainKey(levelledName(chain, level), vrf)`. */
  chains: byKey,
  /** Key: `pathKey(chain, path)`. */
  paths: byKey,
  rules: byKey,
  /** Redirection ids; key: `policyKey(rule)`. */
  policies: byKey,
  /** Key: `gateway/port` or `host/guest`; numbers are of each machine by itself. */
  ports: byKey,
  /** The longest idle timeout of the revision, in ms. */
  longestIdleMs: z.int().positive(),
  /** Numbers that rest: not given to another key before `reusableAt` (ms since 1970). */
  retired: z.array(
    z.strictObject({
      kind: z.enum(kinds),
      key: z.string(),
      number: z.int().positive(),
      retiredAt: z.number(),
      reusableAt: z.number(),
    }),
  ),
});

/** All numbers of one revision; plain JSON, part of the stored revision. */
export type Numbers = z.output<typeof numbersSchema>;

/** There are not enough numbers of one kind. */
export interface NumberProblem {
  readonly code: 'numbers_exhausted';
  readonly kind: NumberKind;
  readonly message: string;
  readonly remedy: string;
}

export type NumberResult =
  | { readonly ok: true; readonly numbers: Numbers }
  | { readonly ok: false; readonly problems: NumberProblem[] };

/** Idle timeout that an intent without chains counts with: flows that a rule allowed have no chain. */
const DEFAULT_IDLE_MS = 3_600_000;

function longestIdle(intent: Intent): number {
  return Math.max(
    DEFAULT_IDLE_MS,
    ...intent.chains.flatMap(({ idleTimeout: idle }) => [idle.tcp, idle.udp, idle.other]),
  );
}

/** Keys of each kind, in the order in which new ones are numbered. */
function keysOf(intent: Intent): Record<NumberKind, string[]> {
  const names = (rows: readonly { readonly name: string }[]): string[] => rows.map(({ name }) => name);
  const steered = steeredChains(intent);
  return {
    vrfs: names(intent.vrfs),
    services: names(intent.services),
    nodes: [
      ...new Set(
        intent.nodes.flatMap((node) =>
          node.attach.kind === 'l2pair' ? vrfsOfNode(node).map((vrf) => nodeKey(node, vrf)) : [node.name],
        ),
      ),
    ],
    chains: steered.flatMap(({ chain, vrfs }) => vrfs.map((vrf) => chainKey(chain.name, vrf))),
    paths: steered.flatMap(({ chain, paths }) => paths.map((path) => pathKey(chain.name, path))),
    rules: names(intent.rules),
    policies: [...new Set(intent.rules.flatMap((rule) => policyKey(rule) ?? []))].sort(),
    ports: [
      ...intent.gateways.flatMap((gateway) => gateway.ports.map((port) => `${gateway.name}/${port.name}`)),
      ...intent.hosts.flatMap((host) => host.guests.map((guest) => `${host.name}/${guest.name}`)),
    ],
  };
}

/** Within which numbers must differ: the whole kind; for ports, one machine. */
function scopeOf(kind: NumberKind, key: string): string {
  return kind === 'ports' ? (key.split('/')[0] ?? '') : '';
}

interface Allocation {
  readonly kind: NumberKind;
  readonly keys: readonly string[];
  readonly previous: Readonly<Record<string, number>>;
  readonly resting: Numbers['retired'];
}

function allocate({ kind, keys, previous, resting }: Allocation): {
  numbers: Record<string, number>;
  missing: number;
} {
  const restingNumber = new Map(resting.map((row) => [row.key, row.number]));
  const used = new Map<string, Set<number>>();
  const usedIn = (key: string): Set<number> => {
    const scope = scopeOf(kind, key);
    const set = used.get(scope) ?? new Set();
    used.set(scope, set);
    return set;
  };
  for (const row of resting) usedIn(row.key).add(row.number);
  const numbers: Record<string, number> = {};
  for (const key of keys) {
    const kept = previous[key] ?? restingNumber.get(key);
    if (kept === undefined) continue;
    numbers[key] = kept;
    usedIn(key).add(kept);
  }
  const nextFree = new Map<string, number>();
  let missing = 0;
  for (const key of keys) {
    if (numbers[key] !== undefined) continue;
    const taken = usedIn(key);
    let number = nextFree.get(scopeOf(kind, key)) ?? 1;
    while (taken.has(number)) number++;
    nextFree.set(scopeOf(kind, key), number + 1);
    if (number > NUMBER_LIMITS[kind]) missing++;
    else numbers[key] = number;
  }
  return { numbers, missing };
}

/**
 * Numbers everything that an intent names.
 * @param previous numbers of the revision before, null for the first one
 * @param nowMs time of the apply in ms since 1970
 */
export function numberIntent(intent: Intent, previous: Numbers | null, nowMs: number): NumberResult {
  const keys = keysOf(intent);
  const longestIdleMs = longestIdle(intent);
  const restMs = Math.max(longestIdleMs, previous?.longestIdleMs ?? 0);
  const stillResting = (previous?.retired ?? []).filter(({ reusableAt }) => reusableAt > nowMs);
  const problems: NumberProblem[] = [];
  const retired: Numbers['retired'] = [];
  const result = {} as Record<NumberKind, Record<string, number>>;
  for (const kind of kinds) {
    const before = previous?.[kind] ?? {};
    const wanted = new Set(keys[kind]);
    const leaving = Object.entries(before)
      .filter(([key]) => !wanted.has(key))
      .map(([key, number]) => ({ kind, key, number, retiredAt: nowMs, reusableAt: nowMs + restMs }));
    const resting = [...stillResting.filter((row) => row.kind === kind), ...leaving];
    const { numbers, missing } = allocate({ kind, keys: keys[kind], previous: before, resting });
    result[kind] = numbers;
    retired.push(...resting.filter(({ key }) => !wanted.has(key)));
    if (missing === 0) continue;
    const rest =
      resting.length === 0 ? '' : `, ${resting.length} of which rest after their names were removed`;
    problems.push({
      code: 'numbers_exhausted',
      kind,
      message: `${missing} ${kind} more than the ${NUMBER_LIMITS[kind]} numbers that there are${rest}`,
      remedy:
        resting.length === 0
          ? `use fewer ${kind}`
          : `use fewer ${kind}, or apply again after ${Math.ceil(restMs / 1000)} s`,
    });
  }
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, numbers: { ...result, longestIdleMs, retired } };
}
