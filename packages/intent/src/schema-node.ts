// SPDX-License-Identifier: Apache-2.0
/** The shape of what packets are steered through: health profiles, services, and nodes with their ways of attachment. */
import { z } from 'zod';
import { MEASURED_ATTRIBUTES } from './formula.js';
import { parseMetricExpression } from './metric-expression.js';
import {
  address,
  device,
  duration,
  integer,
  interfaceAddress,
  name,
  percent,
  prefix,
  refusal,
  says,
} from './scalar.js';
import { outerVlan, tunnelIdentity, vlan } from './schema-gateway.js';

const DAY_MS = 86_400_000;
const bfdIntervalMs = integer(1, 60_000);
const multiplier = integer(1, 255);
const MAX_ROUTES = 16;

export const healthProfileSchema = z
  .strictObject({
    name,
    bfd: z
      .strictObject({
        minTxMs: bfdIntervalMs
          .default(300)
          .meta({ description: 'Desired Min TX Interval in ms (RFC 5880 4.1).' }),
        minRxMs: bfdIntervalMs
          .default(300)
          .meta({ description: 'Required Min RX Interval in ms (RFC 5880 4.1).' }),
        multiplier: multiplier.default(3).meta({ description: 'Detect Mult (RFC 5880 4.1).' }),
        echo: z
          .strictObject({ everyMs: bfdIntervalMs.default(300), multiplier: multiplier.default(3) })
          .optional()
          .meta({ description: 'Unaffiliated echo (RFC 9747): packets to ourselves through the node.' }),
      })
      .optional()
      .meta({ description: 'BFD with the node; up means that it and the echo, where given, are up.' }),
    tcp: z
      .strictObject({
        port: integer(1, 65_535),
        everyMs: integer(100, 300_000).default(1_000),
        multiplier: multiplier.default(3),
      })
      .optional()
      .meta({ description: 'Connections to this TCP port of the node; so many in a row may fail.' }),
    route: z
      .strictObject({
        prefixes: z
          .array(prefix)
          .min(1, says('must name at least one prefix'))
          .max(MAX_ROUTES, says(`must name at most ${MAX_ROUTES} prefixes`)),
      })
      .optional()
      .meta({
        description:
          'Routes to exactly these prefixes must be in the routing table of the VRF, by the tunnel of the node: what it advertises.',
      }),
    adminDownAction: z
      .enum(['keep', 'failover'])
      .default('keep')
      .meta({ description: 'What new flows do when either side says AdminDown.' }),
  })
  .meta({
    description: 'How the health of nodes is found out: bfd, tcp, route; up is what all that are given say.',
  });

export const serviceSchema = z
  .strictObject({
    name,
    scoring: name
      .default('default')
      .meta({ description: 'The policy under scoring: that scores its nodes.' }),
  })
  .meta({ description: 'A kind of function: firewall, ids, …' });

const vrf = name
  .optional()
  .meta({ description: 'The VRF that the node serves; needed where there are several.' });

const inner = z
  .strictObject({ local: interfaceAddress, peer: address })
  .meta({ description: 'Inner addresses of the tunnel at one gateway; BFD and routing run over them.' });

const tunnelMembers = {
  kind: z.literal('tunnel'),
  vrf,
  strictReturn: z
    .boolean()
    .default(true)
    .meta({ description: 'Drop what the node returns of flows that were never sent to it.' }),
  gateways: z
    .record(name, inner)
    .refine((rows) => Object.keys(rows).length > 0, says('must name at least one gateway'))
    .meta({ description: 'Inner addresses by gateway.' }),
};

const pairMember = z.strictObject({ device });
const pairEnd = z.strictObject({ address: interfaceAddress, nextHop: address });

const attachSchema = z.discriminatedUnion('kind', [
  z.discriminatedUnion('protocol', [
    z.strictObject({ ...tunnelMembers, ...tunnelIdentity.vxlan }),
    z.strictObject({
      ...tunnelMembers,
      ...tunnelIdentity.geneve,
      metadata: z.boolean().default(false).meta({
        description:
          'Send our Geneve option (path, hops to do, cookie), which the node must return as it came.',
      }),
    }),
    z.strictObject({ ...tunnelMembers, ...tunnelIdentity.gre }),
  ]),
  z.strictObject({
    kind: z.literal('l2pair'),
    gateway: name.meta({
      description: 'The one gateway that it belongs to: its flows end with that gateway.',
    }),
    a: pairMember.meta({ description: 'The member that faces the uplink.' }),
    b: pairMember.meta({ description: 'The member that faces the inside.' }),
    vrfs: z
      .record(
        name,
        z.strictObject({ vlan: vlan.optional(), outerVlan: outerVlan.optional(), a: pairEnd, b: pairEnd }),
      )
      .refine((rows) => Object.keys(rows).length > 0, says('must name at least one VRF'))
      .meta({ description: 'The address pair by VRF.' }),
  }),
  z.strictObject({
    kind: z.literal('l3'),
    vrf,
    gateway: name
      .optional()
      .meta({ description: 'The gateway it is attached to; needed where there are several.' }),
    device,
    address: interfaceAddress.optional(),
    nextHop: address,
    deviceBack: device
      .optional()
      .meta({ description: 'The second arm, which faces the inside; device then faces the uplink.' }),
    addressBack: interfaceAddress.optional(),
    nextHopBack: address
      .optional()
      .meta({ description: 'Next hop of packets that come from the inside; nextHop where absent.' }),
  }),
  z.strictObject({
    kind: z.literal('gwlb'),
    vrf,
    remote: address,
    udpPort: integer(1, 65_535).default(6081),
    gateways: z.array(name).min(1, says('must name at least one gateway')).optional(),
  }),
  z.strictObject({
    kind: z.literal('plane'),
    vrf,
    host: name,
    device,
    format: z.enum(['none', 'qinq', 'nsh']).default('none'),
  }),
]);

const interval = duration({ minMs: 100, maxMs: DAY_MS });

const metricExpression = z
  .string()
  .check((context) => {
    const parsed = parseMetricExpression(context.value);
    if (!parsed.ok) context.issues.push(refusal(context.value, parsed));
  })
  .meta({
    description: 'Arithmetic over metrics: sums NAME{label="value"}, rate(NAME), + - * / ( ) min and max.',
  });

const attributesSchema = z.strictObject({
  prometheus: z
    .strictObject({
      url: z.url({ protocol: /^https?$/, error: () => 'must be an http:// or https:// URL' }),
      every: interval.default(5000),
      staleAfter: interval.default(15_000),
      metrics: z
        .partialRecord(z.enum(MEASURED_ATTRIBUTES), metricExpression)
        .refine((metrics) => Object.keys(metrics).length > 0, says('must name at least one attribute'))
        .optional()
        .meta({
          description:
            'How attributes come from the metrics of any exporter; those of prometheus-node-exporter where absent.',
        }),
    })
    .optional()
    .meta({ description: 'Attributes read from a Prometheus exporter.' }),
  report: z
    .strictObject({ staleAfter: interval.default(15_000) })
    .optional()
    .meta({ description: 'Attributes that the node, or an agent for it, reports.' }),
  gateways: z
    .strictObject({ staleAfter: interval.default(15_000) })
    .optional()
    .meta({
      description:
        'What gateways measure of the node must come, where the formula names it. Where absent it counts as long as it comes, and as 0 otherwise.',
    }),
});

export const nodeSchema = z
  .strictObject({
    name,
    service: name,
    attach: attachSchema,
    nat: z.boolean().default(false).meta({
      description: 'The node rewrites addresses or ports; needs a metadata format or ports of its own.',
    }),
    health: name.optional().meta({ description: 'A health profile.' }),
    zone: name.optional(),
    capacity: integer(1, 1_000_000).default(100).meta({ description: 'Relative; scores scale it.' }),
    priority: integer(0, 65_535)
      .default(100)
      .meta({ description: 'Higher first, for chains with select: priority.' }),
    maxConnections: integer(1, 1_000_000_000).optional(),
    host: name.optional().meta({ description: 'Where it runs, for select: local and for shared fate.' }),
    maxShare: percent
      .refine((share) => share > 0, says('must be more than 0%'))
      .optional()
      .meta({ description: 'Most of the flows of its service that it may get.' }),
    attributes: attributesSchema.default({}),
  })
  .meta({ description: 'One instance of a service (RFC 7665: SF).' });
