// SPDX-License-Identifier: Apache-2.0
/** The shape of what decides about packets: chains, scoring policies and rules. */
import { z } from 'zod';
import { DEFAULT_FORMULA, parseFormula } from './formula.js';
import { MAX_CHAIN_HOPS, MAX_CHAIN_PATHS } from './limits.js';
import { portRange, protocol } from './match-scalar.js';
import { addressRef, duration, integer, name, percent, refusal, says } from './scalar.js';

/** One hop of a chain: any node of a service. */
export interface Hop {
  readonly service: string;
  /** The hop may be left out when no node of its service can be used. */
  readonly optional: boolean;
}

const hopSchema = z.codec(
  z.union(
    [name, z.strictObject({ service: name, optional: z.boolean().optional() })],
    says('must be the name of a service or { service: NAME, optional: true }'),
  ),
  z.custom<Hop>(),
  {
    decode: (hop) =>
      typeof hop === 'string'
        ? { service: hop, optional: false }
        : { service: hop.service, optional: hop.optional ?? false },
    encode: (hop) => (hop.optional ? { service: hop.service, optional: true } : hop.service),
  },
);

/** What happens to a chain's flows when no healthy path is left. */
export type OnFailure =
  | { readonly kind: 'drop' }
  | { readonly kind: 'bypass' }
  | { readonly kind: 'backup'; readonly chain: string };

const onFailureSchema = z.codec(
  z.union(
    [z.literal('drop'), z.literal('bypass'), z.strictObject({ backup: name })],
    says('must be drop, bypass or { backup: CHAIN }'),
  ),
  z.custom<OnFailure>(),
  {
    decode: (value): OnFailure =>
      typeof value === 'string' ? { kind: value } : { kind: 'backup', chain: value.backup },
    encode: (value) => (value.kind === 'backup' ? { backup: value.chain } : value.kind),
  },
);

const idle = duration({ minMs: 1000, maxMs: 30 * 86_400_000 });

const mssBounds = says('must be auto, or a number of bytes from 536 to 9176');

export const chainSchema = z
  .strictObject({
    name,
    hops: z
      .array(hopSchema)
      .min(1, says('must have at least one hop'))
      .max(MAX_CHAIN_HOPS, says(`has more than the ${MAX_CHAIN_HOPS} hops that a path can hold`))
      .meta({ description: 'Services in the order of the forward direction.' }),
    paths: z
      .array(z.array(name).min(1).max(MAX_CHAIN_HOPS))
      .min(1, says('must have at least one path, or be absent'))
      .max(MAX_CHAIN_PATHS)
      .optional()
      .meta({
        description:
          'Nodes that belong together: only these paths, each with its nodes in the order of hops. Every combination where absent.',
      }),
    select: z
      .enum(['weighted', 'priority', 'local', 'random', 'round-robin', 'least-flows'])
      .default('weighted')
      .meta({
        description:
          'How new flows choose a path. weighted: by the scores of nodes. priority: the best tier that is up. local: the paths over the fewest hosts. random (by weight), round-robin, least-flows: each gateway by its own earlier choices.',
      }),
    preempt: z.boolean().optional().meta({
      description:
        'select: priority only: new flows return to a better tier when it is up again; true where absent. With false each gateway stays with the tier that it uses while a path of it is up.',
    }),
    affinity: z.enum(['5-tuple', '3-tuple', '2-tuple', 'source']).default('5-tuple'),
    onFailure: onFailureSchema.default({ kind: 'drop' }),
    onNodeDown: z.enum(['rebalance', 'keep']).default('rebalance'),
    onRuleChange: z.enum(['revalidate', 'keep']).default('revalidate'),
    mssClamp: z
      .union(
        [z.literal('auto'), z.number().int(mssBounds).min(536, mssBounds).max(9176, mssBounds)],
        mssBounds,
      )
      .optional()
      .meta({
        description:
          'Largest TCP segment that SYNs of steered flows may offer: auto is what the hops of the path take. Never raised.',
      }),
    idleTimeout: z
      .strictObject({ tcp: idle.default(3_600_000), udp: idle.default(120_000), other: idle.default(60_000) })
      .default({ tcp: 3_600_000, udp: 120_000, other: 60_000 }),
  })
  .meta({ description: 'Ordered services (RFC 7665: SFC).' });

export const scoringSchema = z
  .strictObject({
    formula: z
      .string()
      .max(1000)
      .default(DEFAULT_FORMULA)
      .check((context) => {
        const parsed = parseFormula(context.value);
        if (!parsed.ok) context.issues.push(refusal(context.value, parsed));
      })
      .meta({ description: "A node's score from its attributes." }),
    otherZoneFactor: z.number().min(0).max(1).default(0.5).meta({
      description: 'zoneFactor for gateways of another zone than the node; 1 where either has none.',
    }),
    hysteresis: percent.default(0.1),
    slowStart: duration({ minMs: 0, maxMs: 3_600_000 }).default(30_000).meta({
      description:
        'How long a node that is new, or takes new flows again, needs to come to its whole score, beside one that has taken them as long.',
    }),
    smoothing: duration({ minMs: 0, maxMs: 3_600_000 }).default(0).meta({
      description:
        'Time constant by which measured attributes are smoothed before the formula is given them: after so long a lasting change counts 63 %. 0s: not at all.',
    }),
    levels: z
      .record(name, z.number().min(0))
      .default({})
      .meta({ description: 'QoS levels: the score from which a node is of the level.' }),
  })
  .meta({ description: 'How attributes become a score.' });

/** What a rule does with packets that match. */
export type RuleAction =
  | { readonly kind: 'chain'; readonly chain: string }
  | { readonly kind: 'allow' }
  | { readonly kind: 'drop' };

const actionSchema = z.codec(
  z.union(
    [z.literal('allow'), z.literal('drop'), z.strictObject({ chain: name })],
    says('must be allow, drop or { chain: NAME }'),
  ),
  z.custom<RuleAction>(),
  {
    decode: (value): RuleAction =>
      typeof value === 'string' ? { kind: value } : { kind: 'chain', chain: value.chain },
    encode: (value) => (value.kind === 'chain' ? { chain: value.chain } : value.kind),
  },
);

/** A port as rules name it. */
export interface PortRef {
  /** Name of a gateway or host. */
  readonly gateway: string;
  /** Name of its port or guest. */
  readonly port: string;
}

const portRef = z.codec(
  z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,62}\/[a-z0-9][a-z0-9-]{0,62}$/, says('must be GATEWAY/PORT or HOST/GUEST'))
    .meta({ description: 'A port: GATEWAY/PORT or HOST/GUEST.', examples: ['edge1/inside'] }),
  z.custom<PortRef>(),
  {
    decode: (text) => {
      const [gateway = '', port = ''] = text.split('/');
      return { gateway, port };
    },
    encode: (ref) => `${ref.gateway}/${ref.port}`,
  },
);

const addressRefs = z.array(addressRef).default([]);

export const ruleSchema = z
  .strictObject({
    name,
    priority: integer(0, 1_000_000).meta({ description: 'Higher first; the first match wins.' }),
    match: z.strictObject({
      vrf: name,
      source: addressRefs.meta({ description: 'Prefixes and groups; any where empty.' }),
      destination: addressRefs.meta({ description: 'Prefixes and groups; any where empty.' }),
      protocol: protocol.default(null),
      sourcePorts: z.array(portRange).default([]),
      destinationPorts: z.array(portRange).default([]),
    }),
    appliedTo: z
      .array(portRef)
      .default([])
      .meta({ description: 'Ports; every classifying port of the VRF where empty.' }),
    level: name.optional().meta({
      description:
        'A QoS level of scoring: the flows go to nodes that have it while one of their service is up.',
    }),
    action: actionSchema,
  })
  .meta({ description: 'Which packets go through which chain, pass, or are dropped.' });
