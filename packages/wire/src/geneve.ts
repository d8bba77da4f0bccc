// SPDX-License-Identifier: Apache-2.0
/**
 * Geneve (RFC 8926 3.4, 3.5): the base header and its options; what they carry is an Ethernet frame or an IP packet.
 *
 *   |Ver|  Opt Len  |O|C|    Rsvd.  |          Protocol Type        |
 *   |        Virtual Network Identifier (VNI)       |    Reserved   |
 *   |                    Variable-Length Options                    |
 *
 *   |          Option Class         |      Type     |R|R|R| Length  |   Length: of the data, in units of 4 bytes
 *
 * The top bit of an option's type says that a receiver which does not know it must drop the packet; the C bit of the base header says that
 * there is such an option.
 */
import { concatBytes, viewOf } from './bytes.js';
import { accept, type Layer, type Parsed, refuse } from './parsed.js';

export const GENEVE_PORT = 6081;
/** Protocol type of an Ethernet frame inside; IP packets have their EtherTypes. */
export const GENEVE_ETHERNET = 0x6558;
/** The bit of an option's type that makes it critical. */
export const GENEVE_CRITICAL = 0x80;

export interface GeneveOption {
  /** 16 bits, assigned by IANA; 0xff00 and up are experimental. */
  readonly optionClass: number;
  /** 8 bits, with {@link GENEVE_CRITICAL}. */
  readonly type: number;
  /** A multiple of 4 bytes, at most 124. */
  readonly data: Uint8Array;
}

export interface Geneve {
  /** 24 bits. */
  readonly vni: number;
  /** EtherType of what is inside. */
  readonly protocol: number;
  /** The O bit: a message of the tunnel's ends for one another, never forwarded. */
  readonly control: boolean;
  /** The C bit: one of the options at least is critical. */
  readonly critical: boolean;
  readonly options: readonly GeneveOption[];
}

export type GeneveFields = Pick<Geneve, 'vni'> & Partial<Geneve>;

/**
 * The header, then the payload. Defaults: an Ethernet frame inside, no options, C as the options say.
 * @throws RangeError for option data that is no multiple of 4 bytes, or too long alone or together
 */
export function buildGeneve(fields: GeneveFields, payload: Uint8Array): Uint8Array {
  const options = fields.options ?? [];
  const body = concatBytes(...options.map(buildOption));
  if (body.length > 252) throw new RangeError(`Geneve options have at most 252 bytes, not ${body.length}`);
  const critical = fields.critical ?? options.some(isCritical);
  const fixed = new Uint8Array(8);
  const view = viewOf(fixed);
  view.setUint8(0, body.length / 4);
  view.setUint8(1, (fields.control === true ? 0x80 : 0) | (critical ? 0x40 : 0));
  view.setUint16(2, fields.protocol ?? GENEVE_ETHERNET);
  view.setUint32(4, (fields.vni << 8) >>> 0);
  return concatBytes(fixed, body, payload);
}

function isCritical(option: GeneveOption): boolean {
  return (option.type & GENEVE_CRITICAL) !== 0;
}

function buildOption({ optionClass, type, data }: GeneveOption): Uint8Array {
  if (data.length % 4 !== 0 || data.length > 124)
    throw new RangeError(`data of a Geneve option is a multiple of 4 bytes up to 124, not ${data.length}`);
  const header = new Uint8Array(4);
  const view = viewOf(header);
  view.setUint16(0, optionClass);
  view.setUint8(2, type);
  view.setUint8(3, data.length / 4);
  return concatBytes(header, data);
}

/** Options must fill their place exactly (RFC 8926 3.4, Opt Len); reserved bits are ignored. Whether options are known is the caller's to say. */
export function parseGeneve(bytes: Uint8Array): Parsed<Layer<Geneve>> {
  if (bytes.length < 8) return refuse('a Geneve header is at least 8 bytes', bytes.length);
  const view = viewOf(bytes);
  const version = view.getUint8(0) >>> 6;
  if (version !== 0) return refuse('version 0', version);
  const end = 8 + (view.getUint8(0) & 0x3f) * 4;
  if (end > bytes.length) return refuse('options within the packet', end);
  const options: GeneveOption[] = [];
  let at = 8;
  while (at < end) {
    const next = at + 4 + (view.getUint8(at + 3) & 0x1f) * 4;
    if (next > end) return refuse('an option that ends within the options', next);
    options.push({
      optionClass: view.getUint16(at),
      type: view.getUint8(at + 2),
      data: bytes.subarray(at + 4, next),
    });
    at = next;
  }
  return accept({
    header: {
      vni: view.getUint32(4) >>> 8,
      protocol: view.getUint16(2),
      control: (view.getUint8(1) & 0x80) !== 0,
      critical: (view.getUint8(1) & 0x40) !== 0,
      options,
    },
    payload: bytes.subarray(end),
  });
}
