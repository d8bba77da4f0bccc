// SPDX-License-Identifier: Apache-2.0
/** The shape of what packets enter and leave by: VRFs, groups, gateways with their ports, and hosts with their guests. */
import { z } from 'zod';
import { address, device, integer, interfaceAddress, name, prefix, says } from './scalar.js';

const RESERVED_TABLES = [253, 255];

export const vrfSchema = z
  .strictObject({
    name,
    table: integer(1, 4_294_967_295)
      .refine(
        (table) => !RESERVED_TABLES.includes(table),
        says('is one of Linux own tables (253 default, 255 local)'),
      )
      .meta({ description: 'The Linux routing table; FRR or BIRD may fill it.' }),
  })
  .meta({ description: 'A routing instance; tenants in different VRFs may use the same addresses.' });

const labels = z
  .record(z.string().regex(/^[\w./-]{1,63}$/, says('is no label name')), z.string().max(253))
  .meta({ description: 'Labels of a guest.', examples: [{ app: 'web' }] });

export const groupSchema = z
  .strictObject({
    name,
    addresses: z.array(prefix).min(1, says('must name at least one prefix')).optional(),
    guestLabels: labels.optional(),
  })
  .refine(
    (group) => group.addresses !== undefined || group.guestLabels !== undefined,
    says('needs addresses or guestLabels'),
  )
  .meta({ description: 'A set of addresses, or of guests by their labels, with a name for rules.' });

const underlay = z
  .strictObject({ device, address })
  .meta({ description: 'The device and address that outer headers of tunnels use.' });

const vni = integer(1, 16_777_215).meta({ description: 'VXLAN or Geneve network identifier.' });
const greKey = integer(0, 4_294_967_295).meta({ description: 'GRE key.' });
const udpPort = integer(1, 65_535);

const checksum = z
  .boolean()
  .default(false)
  .meta({ description: 'Fill in a checksum of the outer UDP header, or of GRE and ask for one.' });
const innerIs = z.enum(['l2', 'l3']);
const innerMeta = { description: 'What is inside: Ethernet frames (l2) or IP packets (l3).' };

/** How a tunnel is told apart on the wire; shared by VTI ports and tunnel nodes. */
export const tunnelIdentity = {
  vxlan: { protocol: z.literal('vxlan'), remote: address, vni, udpPort: udpPort.default(4789), checksum },
  geneve: {
    protocol: z.literal('geneve'),
    remote: address,
    vni,
    udpPort: udpPort.default(6081),
    inner: innerIs.default('l2').meta(innerMeta),
    checksum,
  },
  gre: {
    protocol: z.literal('gre'),
    remote: address,
    key: greKey.optional(),
    inner: innerIs.default('l3').meta(innerMeta),
    checksum,
  },
} as const;

const portTunnel = z.discriminatedUnion('protocol', [
  z.strictObject(tunnelIdentity.vxlan),
  z.strictObject(tunnelIdentity.geneve),
  z.strictObject(tunnelIdentity.gre),
]);

export const vlan = integer(1, 4094).meta({
  description: 'The VLAN on the device whose packets this is for (802.1Q).',
});
export const outerVlan = integer(1, 4094).meta({
  description: 'The service tag in front of the VLAN tag (802.1ad, QinQ).',
});

const portBase = {
  name,
  vlan: vlan.optional(),
  outerVlan: outerVlan.optional(),
  attachMode: z
    .enum(['auto', 'native', 'generic', 'tc'])
    .default('auto')
    .meta({ description: 'How the program is attached; auto tries native, then generic.' }),
};
const classify = z
  .boolean()
  .default(false)
  .meta({ description: 'Whether packets that enter here are looked up in the rules.' });
const addresses = z
  .array(interfaceAddress)
  .default([])
  .meta({ description: 'Addresses of the interface that a VTI or VLAN port shows as.' });

export const portSchema = z.discriminatedUnion('kind', [
  z.strictObject({ ...portBase, kind: z.literal('internal'), device, vrf: name, classify, addresses }),
  z.strictObject({
    ...portBase,
    kind: z.literal('uplink'),
    device,
    vrf: name,
    classify,
    addresses,
    snat: address
      .optional()
      .meta({ description: 'Source address given to what leaves here, after every service.' }),
  }),
  z.strictObject({
    name: portBase.name,
    kind: z.literal('vti'),
    vrf: name,
    classify,
    addresses,
    tunnel: portTunnel,
  }),
  z.strictObject({ ...portBase, kind: z.literal('guest'), device, vrf: name, classify, addresses }),
  z.strictObject({ ...portBase, kind: z.literal('underlay'), device, vrf: name.optional() }),
  z.strictObject({ ...portBase, kind: z.literal('service'), device, vrf: name, classify }),
]);

export const gatewaySchema = z
  .strictObject({ name, zone: name.optional(), underlay, ports: z.array(portSchema).default([]) })
  .meta({ description: 'An edge forwarding element: one machine running tunnel-gw and bfd with role edge.' });

const guestSchema = z.strictObject({
  name,
  device,
  vrf: name,
  labels: labels.default({}),
  classify: z.boolean().default(true),
  addresses: z
    .array(address)
    .default([])
    .meta({ description: "The guest's addresses, where they are known beforehand." }),
});

export const hostSchema = z
  .strictObject({
    name,
    zone: name.optional(),
    underlay,
    servicePlane: z.strictObject({ vni }).optional(),
    guests: z.array(guestSchema).default([]),
  })
  .meta({
    description:
      'A machine that classifies at the source for its guests and hands packets to its local nodes.',
  });
