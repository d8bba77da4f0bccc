// SPDX-License-Identifier: Apache-2.0
/** The whole intent document: its sections, and the types of a checked one. */
import { z } from 'zod';
import { chainSchema, ruleSchema, scoringSchema } from './schema-chain.js';
import { gatewaySchema, groupSchema, hostSchema, vrfSchema } from './schema-gateway.js';
import { healthProfileSchema, nodeSchema, serviceSchema } from './schema-node.js';

/** The only `apiVersion` there is. */
export const API_VERSION = 'detour/v1';

/** The sections that are lists of named rows, each with the schema of a row. */
export const ROW_SCHEMAS = {
  vrfs: vrfSchema,
  groups: groupSchema,
  gateways: gatewaySchema,
  hosts: hostSchema,
  healthProfiles: healthProfileSchema,
  services: serviceSchema,
  nodes: nodeSchema,
  chains: chainSchema,
  rules: ruleSchema,
} as const;

/** Name of a section that is a list of named rows. */
export type Section = keyof typeof ROW_SCHEMAS;

/** All sections, in the order of the document. */
export const SECTIONS = Object.keys(ROW_SCHEMAS) as Section[];

export const unresolvedPolicySchema = z
  .enum(['drop', 'allow'])
  .default('drop')
  .meta({ description: 'What happens to packets of a rule whose chain does not exist.' });

export const scoringSectionSchema = z.record(z.string(), scoringSchema);

/** The document as a whole; encoding with it gives the canonical document. */
export const documentSchema = z
  .strictObject({
    apiVersion: z.literal(API_VERSION),
    vrfs: z.array(vrfSchema).default([]),
    groups: z.array(groupSchema).default([]),
    gateways: z.array(gatewaySchema).default([]),
    hosts: z.array(hostSchema).default([]),
    healthProfiles: z.array(healthProfileSchema).default([]),
    services: z.array(serviceSchema).default([]),
    nodes: z.array(nodeSchema).default([]),
    chains: z.array(chainSchema).default([]),
    scoring: scoringSectionSchema.default({}),
    rules: z.array(ruleSchema).default([]),
    unresolvedPolicy: unresolvedPolicySchema,
  })
  .meta({ title: 'Detour intent', description: 'What the operator declares: one versioned document.' });

type DeepReadonly<T> = T extends (infer U)[]
  ? readonly DeepReadonly<U>[]
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;

/**
 * A checked, normalised, frozen document: durations in ms, percentages as fractions, prefixes canonical, ports as [lo, hi],
 * every default filled in, scoring always with a `default`, named rows sorted by name, rules by descending priority.
 */
export type Intent = DeepReadonly<z.output<typeof documentSchema>>;
export type Vrf = Intent['vrfs'][number];
export type Group = Intent['groups'][number];
export type Gateway = Intent['gateways'][number];
export type Port = Gateway['ports'][number];
export type Host = Intent['hosts'][number];
export type Guest = Host['guests'][number];
export type HealthProfile = Intent['healthProfiles'][number];
export type Service = Intent['services'][number];
export type ServiceNode = Intent['nodes'][number];
export type Attach = ServiceNode['attach'];
export type Chain = Intent['chains'][number];
export type Scoring = Intent['scoring'][string];
export type Rule = Intent['rules'][number];
export type Match = Rule['match'];

/** The canonical document: plain JSON in the shape that operators write. */
export type IntentDocument = z.input<typeof documentSchema>;

/** Freezes a value and all that it holds. */
export function freezeDeep<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) freezeDeep(inner);
  }
  return value;
}
