// SPDX-License-Identifier: Apache-2.0
/** Codecs of what a rule matches beside addresses: the protocol and port ranges. */
import { z } from 'zod';
import { refusal, says } from './scalar.js';

/** IP protocol numbers that have a name in the document (IANA "Assigned Internet Protocol Numbers"). */
export const PROTOCOL_NUMBERS = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  sctp: 132,
} as const;
type ProtocolName = keyof typeof PROTOCOL_NUMBERS;
const PROTOCOL_NAMES = Object.keys(PROTOCOL_NUMBERS) as ProtocolName[];

/** The name of a protocol number, or the number as text. */
export function protocolName(protocol: number): string {
  return PROTOCOL_NAMES.find((name) => PROTOCOL_NUMBERS[name] === protocol) ?? String(protocol);
}

const protocolRemedy = `write any, one of ${PROTOCOL_NAMES.join(', ')}, or a number from 0 to 255`;

/** `tcp`, a number, or `any` ↔ the IP protocol number, null for any. */
export const protocol = z.codec(
  z
    .union([z.string(), z.number()], says(protocolRemedy))
    .meta({ description: 'An IP protocol by name or number, or any.', examples: ['tcp', 'any', 89] }),
  z.number().nullable(),
  {
    decode: (value, context) => {
      if (value === 'any') return null;
      const named = PROTOCOL_NAMES.find((name) => name === value);
      if (named !== undefined) return PROTOCOL_NUMBERS[named];
      if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255) return value;
      context.issues.push(refusal(value, { message: 'is no protocol', remedy: protocolRemedy }));
      return z.NEVER;
    },
    encode: (value) => {
      if (value === null) return 'any';
      return PROTOCOL_NAMES.find((name) => PROTOCOL_NUMBERS[name] === value) ?? value;
    },
  },
);

/** All ports from the first to the second, both included. */
export type PortRange = readonly [lo: number, hi: number];

const portRemedy = 'write a port from 0 to 65535, or a range such as 8000-8099 with the lower port first';

function readPortRange(value: string | number): PortRange | undefined {
  if (typeof value === 'number')
    return Number.isInteger(value) && value >= 0 && value <= 65_535 ? [value, value] : undefined;
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(value);
  if (match === null) return undefined;
  const lo = Number(match[1]);
  const hi = Number(match[2] ?? match[1]);
  return lo <= hi && hi <= 65_535 ? [lo, hi] : undefined;
}

/** `443` or `8000-8099` ↔ [lo, hi]. */
export const portRange = z.codec(
  z
    .union([z.string(), z.number()], says(portRemedy))
    .meta({ description: 'A port, or a range of ports.', examples: [443, '8000-8099'] }),
  z.custom<PortRange>(),
  {
    decode: (value, context) => {
      const range = readPortRange(value);
      if (range !== undefined) return range;
      context.issues.push(refusal(value, { message: 'is no port or port range', remedy: portRemedy }));
      return z.NEVER;
    },
    encode: ([lo, hi]) => (lo === hi ? lo : `${lo}-${hi}`),
  },
);
