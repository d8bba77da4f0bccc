// SPDX-License-Identifier: Apache-2.0
/** Codecs of the document's scalars: text as the operator writes it ↔ the value as programs use it. */
import { z } from 'zod';
import { formatAddress, formatPrefix, networkOf, parseAddress, parsePrefix } from './address.js';
import { MAX_DEVICE_NAME } from './limits.js';

interface Refusal {
  readonly message: string;
  readonly remedy: string;
}

/** A custom issue that carries its remedy; zod's own issues get theirs from their code. */
export function refusal<T>(input: T, { message, remedy }: Refusal) {
  return { code: 'custom' as const, input, message, params: { remedy } };
}

/** An error option for schemas whose own message would not help. */
export function says(message: string): { error: () => string } {
  return { error: () => message };
}

/** Codec of one text form: `read` gives the value or says what is wrong; `write` gives the canonical text. */
function textCodec<T extends z.ZodType>(
  out: T,
  read: (text: string) => z.output<T> | Refusal,
  write: (value: z.output<T>) => string,
  jsonSchema: { description: string; pattern?: string; examples: string[] },
) {
  return z.codec(z.string().meta(jsonSchema), out, {
    decode: (text, context) => {
      const value = read(text);
      if (typeof value === 'object' && value !== null && 'remedy' in value) {
        context.issues.push(refusal(text, value as Refusal));
        return z.NEVER;
      }
      return value as z.input<T>;
    },
    encode: (value) => write(value as z.output<T>),
  });
}

const UNITS_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const UNITS_FROM_LARGEST = ['d', 'h', 'm', 's'] as const;

function writeDuration(ms: number): string {
  const unit = UNITS_FROM_LARGEST.find((name) => ms > 0 && ms % UNITS_MS[name] === 0);
  return unit === undefined ? `${ms}ms` : `${ms / UNITS_MS[unit]}${unit}`;
}

/** A duration such as `50ms`, `30s`, `2m`, `1h` or `7d` ↔ milliseconds, within the bounds. */
export function duration(bounds: { minMs: number; maxMs: number }) {
  const span = `${writeDuration(bounds.minMs)} to ${writeDuration(bounds.maxMs)}`;
  return textCodec(
    z.number(),
    (text) => {
      const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
      if (match === null)
        return {
          message: 'is no duration',
          remedy: 'write a whole number and a unit: 50ms, 30s, 2m, 1h or 7d',
        };
      const ms = Number(match[1]) * UNITS_MS[match[2] as keyof typeof UNITS_MS];
      if (ms < bounds.minMs || ms > bounds.maxMs)
        return { message: 'is outside its bounds', remedy: `choose a duration from ${span}` };
      return ms;
    },
    writeDuration,
    { description: `A duration, ${span}.`, pattern: '^\\d{1,9}(ms|s|m|h|d)$', examples: ['30s'] },
  );
}

/** A percentage such as `60%` ↔ a fraction 0..1. */
export const percent = textCodec(
  z.number(),
  (text) => {
    const match = /^(\d{1,3}(?:\.\d{1,4})?)%$/.exec(text);
    const value = match === null ? Number.NaN : Number(match[1]);
    if (!(value >= 0 && value <= 100))
      return {
        message: 'is no percentage',
        remedy: 'write a number from 0 to 100 with a percent sign, such as 60%',
      };
    return value / 100;
  },
  (fraction) => `${Number((fraction * 100).toFixed(4))}%`,
  { description: 'A percentage.', pattern: '^\\d{1,3}(\\.\\d{1,4})?%$', examples: ['60%'] },
);

const nameMeta = { description: 'A name, unique among its kind.', examples: ['fw1'] };

/** A name: it becomes part of keys, subjects and metric labels. */
export const name = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,62}$/,
    says('must be 1 to 63 lower-case letters, digits or "-", beginning with a letter or digit'),
  )
  .meta(nameMeta);

/** The name of a Linux network device. */
export const device = z
  .string()
  .max(
    MAX_DEVICE_NAME,
    says(`is longer than the ${MAX_DEVICE_NAME} characters that Linux allows for a device name`),
  )
  .regex(/^(?!\.{1,2}$)[^\s/:%]+$/, says('is no device name: no spaces, "/", ":" or "%"'))
  .meta({ description: 'The name of a Linux network device.', examples: ['eth1'] });

/** An IPv4 or IPv6 address in canonical text. */
export const address = textCodec(
  z.string(),
  (text) => {
    const parsed = parseAddress(text);
    if (parsed !== undefined) return formatAddress(parsed);
    return text.includes('/')
      ? {
          message: 'is a prefix where an address belongs',
          remedy: `write it without "/${text.split('/')[1] ?? ''}"`,
        }
      : {
          message: 'is no IP address',
          remedy: 'write an IPv4 address such as 192.0.2.1 or an IPv6 address such as 2001:db8::1',
        };
  },
  (text) => text,
  { description: 'An IPv4 or IPv6 address.', examples: ['192.0.2.1', '2001:db8::1'] },
);

function readPrefix(text: string): string | Refusal {
  const parsed = parsePrefix(text);
  if (parsed === undefined)
    return { message: 'is no prefix', remedy: 'write ADDRESS/LENGTH such as 10.1.0.0/16 or 2001:db8::/32' };
  const network = networkOf(parsed);
  if (network.value !== parsed.value)
    return {
      message: `has bits set behind its prefix length of ${parsed.length}`,
      remedy: `write ${formatPrefix(network)} for the network, or ${formatAddress(parsed)} for the one address`,
    };
  return formatPrefix(network);
}

/** A network prefix without host bits in canonical text; a bare address is a prefix of its full length. */
export const prefix = textCodec(z.string(), readPrefix, (text) => text, {
  description: 'A prefix of IPv4 or IPv6 addresses.',
  examples: ['10.1.0.0/16', '2001:db8::/32'],
});

/** An interface address: an address inside a network, with its prefix length, in canonical text. */
export const interfaceAddress = textCodec(
  z.string(),
  (text) => {
    const parsed = text.includes('/') ? parsePrefix(text) : undefined;
    if (parsed !== undefined) return formatPrefix(parsed);
    return {
      message: 'is no interface address',
      remedy: 'write the address with the length of its subnet, such as 169.254.1.1/30',
    };
  },
  (text) => text,
  { description: 'An address with the prefix length of its subnet.', examples: ['169.254.1.1/30'] },
);

/** Whom a match names: a prefix, or a group by its name. */
export type AddressRef =
  | { readonly kind: 'prefix'; readonly prefix: string }
  | { readonly kind: 'group'; readonly group: string };

/** A prefix, or the name of a group, ↔ which of the two it is. */
export const addressRef = textCodec(
  z.custom<AddressRef>(),
  (text) => {
    if (/^[a-z0-9][a-z0-9-]{0,62}$/.test(text)) return { kind: 'group', group: text } as const;
    const read = readPrefix(text);
    if (typeof read !== 'string')
      return read.message === 'is no prefix'
        ? {
            message: 'is neither a prefix nor the name of a group',
            remedy: 'write a prefix such as 10.1.0.0/16 or a group under groups:',
          }
        : read;
    return { kind: 'prefix', prefix: read } as const;
  },
  (ref) => (ref.kind === 'prefix' ? ref.prefix : ref.group),
  { description: 'A prefix, or the name of a group.', examples: ['10.1.0.0/16', 'office'] },
);

/** A whole number within bounds, with a message that names them. */
export function integer(min: number, max: number) {
  const message = `must be a whole number from ${min} to ${max}`;
  return z.number(says(message)).int(says(message)).min(min, says(message)).max(max, says(message));
}
