// SPDX-License-Identifier: Apache-2.0
/** Which of the firewalls serve, what each is worth, how a path is selected. */
import type { IntentDocument } from '@detour/intent';
import { usageFormula } from './acceptance-lab.js';

type Chain = NonNullable<IntentDocument['chains']>[number];

export interface Serving {
  /** Of the firewalls that serve; the others do not. */
  readonly capacity: Readonly<Record<string, number>>;
  readonly chain?: Pick<Chain, 'onNodeDown' | 'select'>;
  /** Capacities by what nodes report, and at once. */
  readonly reported?: boolean;
}

export function servingIntent(
  standard: IntentDocument,
  { capacity, chain, reported = false }: Serving,
): IntentDocument {
  return {
    ...standard,
    scoring: { default: { formula: usageFormula, hysteresis: '0%', slowStart: '0s' } },
    services: [{ name: 'firewall' }, { name: 'spare' }],
    nodes: (standard.nodes ?? []).map((node) => ({
      ...node,
      service: capacity[node.name] === undefined ? 'spare' : 'firewall',
      capacity: capacity[node.name] ?? 1,
      attributes: reported ? { report: { staleAfter: '1h' } } : {},
    })),
    chains: (standard.chains ?? []).map((one) => ({ ...one, ...chain })),
  };
}

/** So many firewalls of one capacity. */
export function equal(count: number): Record<string, number> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`fw${i + 1}`, 100]));
}

/** What so many firewalls of one capacity weigh while none has a load. */
export function alike(count: number): Record<string, number> {
  return Object.fromEntries(Object.keys(equal(count)).map((name) => [name, 1000]));
}

/** Paths 101, 102 and 103: one firewall each, worth 50, 30 and 20. */
export const THREE_PATHS = { fw1: 50, fw2: 30, fw3: 20 } as const;
export const THREE_WEIGHTS = { fw1: 1000, fw2: 600, fw3: 400 } as const;
