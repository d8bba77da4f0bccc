// SPDX-License-Identifier: Apache-2.0
/** What `detour node attach` is told, by a YAML file or by flags: checked whole, every problem named at once. */
import { Fault, parseAddress } from '@detour/core';
import { parse } from 'yaml';
import { z } from 'zod';

const address = z.string().refine((text) => parseAddress(text) !== null, { error: 'is no IP address' });
const device = z
  .string()
  .regex(/^[^\s/:]{1,15}$/, { error: 'is no device name: 1 to 15 characters without space, / and :' });
const whole = (min: number, max: number) =>
  z
    .number()
    .int()
    .min(min)
    .max(max, { error: `is no whole number from ${min} to ${max}` });

const arm = z.strictObject({ device, nextHop: address });

const inner = z.enum(['l2', 'l3']).default('l2');
const attach = z.discriminatedUnion('kind', [
  z.discriminatedUnion('protocol', [
    z.strictObject({ kind: z.literal('tunnel'), protocol: z.literal('vxlan'), vni: whole(1, 0xffffff) }),
    z.strictObject({
      kind: z.literal('tunnel'),
      protocol: z.literal('geneve'),
      vni: whole(1, 0xffffff),
      inner,
    }),
    z.strictObject({
      kind: z.literal('tunnel'),
      protocol: z.literal('gre'),
      key: whole(0, 0xffffffff).optional(),
      inner: inner.default('l3'),
    }),
  ]),
  z.strictObject({ kind: z.literal('gwlb') }),
]);

const schema = z
  .strictObject({
    node: z
      .string()
      .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, { error: 'is no name: lower-case letters, digits and dashes' }),
    underlay: z.strictObject({ device, address }),
    attach,
    gateways: z
      .array(z.strictObject({ address, local: address.optional(), peer: address.optional() }))
      .min(1)
      .max(64),
    pair: z
      .strictObject({
        in: device.optional(),
        out: device.optional(),
        link: device.optional(),
        arms: z.strictObject({ in: arm, out: arm }).optional(),
        mtu: whole(576, 9000).optional(),
        forward: z.enum(['route', 'bridge']).default('route'),
        ipv6: z.boolean().default(false),
        table: whole(1, 0x7fffffff).default(3784),
      })
      .prefault({}),
    xdp: z.enum(['auto', 'native', 'generic']).default('auto'),
    flows: whole(64, 4_194_304).default(32_768),
    bfd: z
      .union([
        z.literal(false),
        z.strictObject({
          minTxMs: whole(1, 60_000).default(50),
          minRxMs: whole(1, 60_000).default(50),
          multiplier: whole(1, 255).default(3),
        }),
      ])
      .prefault({}),
    tcp: z.strictObject({ port: whole(1, 65_535) }).optional(),
    report: z
      .strictObject({
        to: z
          .string()
          .regex(/^(unix:\/.+|.+:\d{1,5})$/, { error: 'is no gRPC address: give host:port or unix:/path' }),
        everyMs: whole(100, 3_600_000).default(5_000),
      })
      .optional(),
  })
  .superRefine((config, context) => {
    const wrong = (path: (string | number)[], message: string) =>
      context.addIssue({ code: 'custom', path, message });
    const v6 = config.underlay.address.includes(':');
    for (const [at, gateway] of config.gateways.entries()) {
      if (gateway.address.includes(':') !== v6)
        wrong(
          ['gateways', at, 'address'],
          `is of another family than the underlay address ${config.underlay.address}`,
        );
      const given = [gateway.local, gateway.peer].filter((one) => one !== undefined).length;
      if (config.attach.kind === 'gwlb' && given > 0)
        wrong(['gateways', at], 'has inner addresses: gwlb has none; leave local and peer out');
      if (config.attach.kind === 'tunnel' && given < 2)
        wrong(['gateways', at], 'needs local and peer, the inner addresses of the node and of the gateway');
    }
    if (config.attach.kind === 'tunnel' && config.tcp !== undefined && config.tcp.port === 3784)
      wrong(['tcp', 'port'], 'is BFD’s');
    const { arms, in: inName, out: outName, forward, ipv6 } = config.pair;
    if (arms !== undefined && (inName ?? outName) !== undefined)
      wrong(['pair', 'arms'], 'are the sides: leave in and out out');
    if (arms !== undefined && (forward === 'bridge' || ipv6))
      wrong(['pair', 'arms'], 'lead to a router, this machine forwards nothing: leave forward and ipv6 out');
  });

/** Checked and whole; device names are made of the node's where they are not given. */
export interface NodeConfig extends z.infer<typeof schema> {
  readonly pair: z.infer<typeof schema>['pair'] & {
    readonly in: string;
    readonly out: string;
    readonly link: string;
  };
}

/** @throws Fault `invalid` with every problem, as `where: value: what` */
export function checkConfig(raw: unknown, source: string): NodeConfig {
  const checked = schema.safeParse(raw);
  if (!checked.success) {
    const problems = checked.error.issues.map((issue) => describeIssue(issue, raw));
    throw new Fault('invalid', `${source}: ${problems.join('; ')}`);
  }
  const config = checked.data;
  const short = config.node.slice(0, 10);
  const pair = {
    ...config.pair,
    in: config.pair.in ?? config.pair.arms?.in.device ?? `${short}-in`,
    out: config.pair.out ?? config.pair.arms?.out.device ?? `${short}-out`,
    link: config.pair.link ?? `${short}-link`,
  };
  const names = [config.underlay.device, pair.in, pair.out, pair.link];
  if (new Set(names).size < names.length)
    throw new Fault('invalid', `${source}: devices ${names.join(', ')} must have four different names`);
  return Object.freeze({ ...config, pair });
}

function describeIssue(issue: z.core.$ZodIssue, raw: unknown): string {
  const where = issue.path.join('.') || 'document';
  const given = issue.path.reduce<unknown>(
    (at, key) =>
      typeof at === 'object' && at !== null ? (at as Record<PropertyKey, unknown>)[key] : undefined,
    raw,
  );
  if (issue.code === 'unrecognized_keys') return `${where}: has no key ${issue.keys.join(', ')}`;
  if (given === undefined) return `${where}: is missing`;
  const what = issue.code === 'invalid_type' ? `is no ${issue.expected}` : issue.message;
  return `${where}: ${typeof given === 'object' ? '' : `${String(given)} `}${what}`;
}

/** @throws Fault `invalid` */
export function readConfig(text: string, source: string): NodeConfig {
  let raw: unknown;
  try {
    raw = parse(text);
  } catch (error) {
    throw new Fault(
      'invalid',
      `${source} is no YAML: ${error instanceof Error ? error.message : String(error)}`,
      error,
    );
  }
  return checkConfig(raw, source);
}

/** As commander reads them. */
export interface AttachFlags {
  readonly config?: string;
  readonly node?: string;
  readonly device?: string;
  readonly address?: string;
  readonly kind?: string;
  readonly protocol?: string;
  readonly vni?: number;
  readonly key?: number;
  readonly inner?: string;
  readonly gateway?: readonly string[];
  readonly in?: string;
  readonly out?: string;
  readonly mtu?: number;
  readonly forward?: string;
  readonly tcpPort?: number;
  readonly report?: string;
}

const FLAG_PATHS: Readonly<Partial<Record<keyof AttachFlags, readonly string[]>>> = {
  node: ['node'],
  device: ['underlay', 'device'],
  address: ['underlay', 'address'],
  kind: ['attach', 'kind'],
  protocol: ['attach', 'protocol'],
  vni: ['attach', 'vni'],
  key: ['attach', 'key'],
  inner: ['attach', 'inner'],
  in: ['pair', 'in'],
  out: ['pair', 'out'],
  mtu: ['pair', 'mtu'],
  forward: ['pair', 'forward'],
  tcpPort: ['tcp', 'port'],
  report: ['report', 'to'],
};

/** The document that flags stand for. `--gateway 192.0.2.1` or, with inner addresses, `--gateway 192.0.2.1,LOCAL,PEER`. */
export function configOfFlags(flags: AttachFlags): unknown {
  const document: Record<string, unknown> = {};
  for (const [name, path] of Object.entries(FLAG_PATHS)) {
    const value = flags[name as keyof AttachFlags];
    if (value === undefined) continue;
    const [first = '', second] = path;
    if (second === undefined) document[first] = value;
    else document[first] = { ...(document[first] as object | undefined), [second]: value };
  }
  document.gateways = (flags.gateway ?? []).map((text) => {
    const [address, local, peer] = text.split(',');
    return { address, ...(local !== undefined && { local }), ...(peer !== undefined && { peer }) };
  });
  return document;
}
