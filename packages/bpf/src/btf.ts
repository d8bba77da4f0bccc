// SPDX-License-Identifier: Apache-2.0
// How the kernel's BTF lays out a map's keys and values (Linux, Documentation/bpf/btf.rst): sizes, offsets and names, whatever program made the map.

import { Fault } from '@detour/core';
import koffi from 'koffi';
import { errnoFault, lastErrno } from './errno.js';
import type { BpfMap } from './map.js';
import { native } from './native.js';

export type Layout =
  | { readonly kind: 'scalar'; readonly size: number }
  | { readonly kind: 'array'; readonly size: number; readonly of: Layout; readonly count: number }
  | {
      readonly kind: 'struct';
      readonly size: number;
      readonly name: string;
      readonly fields: readonly Field[];
    };

export interface Field {
  readonly name: string;
  readonly at: number; // bytes from the start of the struct
  readonly layout: Layout;
}

const MAGIC = 0xeb9f;
const KIND = {
  int: 1,
  array: 3,
  struct: 4,
  enum: 6,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  enum64: 19,
} as const;
/** Bytes behind the twelve of a type's head, for each kind that has some: fixed, or for each of its members. */
const FIXED: Readonly<Record<number, number>> = { 1: 4, 3: 12, 14: 4, 17: 4 };
const EACH: Readonly<Record<number, number>> = { 4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12 };
const ALIASES: ReadonlySet<number> = new Set([KIND.typedef, KIND.volatile, KIND.const, KIND.restrict, 18]);

interface Type {
  readonly kind: number;
  readonly name: string;
  readonly members: number;
  readonly sizeOrType: number;
  /** Where the members stand. */
  readonly at: number;
}

/** Types by their id; the first is id 1. @throws Fault `invalid` for what is no BTF. */
export function parseBtf(bytes: Uint8Array): { layoutOf(id: number): Layout } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 24 || view.getUint16(0, true) !== MAGIC)
    throw new Fault('invalid', `${bytes.length} bytes are no BTF of this machine's byte order`);
  const header = view.getUint32(4, true);
  const [typesAt, typesLen, namesAt] = [8, 12, 16].map((at) => view.getUint32(at, true));
  const nameAt = (offset: number): string => {
    const from = header + (namesAt ?? 0) + offset;
    return Buffer.from(bytes.subarray(from, bytes.indexOf(0, from))).toString('latin1');
  };
  const types: (Type | null)[] = [null]; // void
  const end = header + (typesAt ?? 0) + (typesLen ?? 0);
  for (let at = header + (typesAt ?? 0); at < end; ) {
    const info = view.getUint32(at + 4, true);
    const [kind, members] = [(info >>> 24) & 0x1f, info & 0xffff];
    const name = nameAt(view.getUint32(at, true));
    types.push({ kind, members, name, sizeOrType: view.getUint32(at + 8, true), at: at + 12 });
    at += 12 + (FIXED[kind] ?? (EACH[kind] ?? 0) * members);
  }
  const layoutOf = (id: number): Layout => {
    const type = types[id];
    if (type == null) throw new Fault('invalid', `BTF type ${id} is not there`);
    if (ALIASES.has(type.kind)) return layoutOf(type.sizeOrType);
    const u32 = (at: number): number => view.getUint32(at, true);
    switch (type.kind) {
      case KIND.int:
      case KIND.enum:
      case KIND.enum64:
        return { kind: 'scalar', size: type.sizeOrType };
      case KIND.array: {
        const of = layoutOf(u32(type.at));
        const count = u32(type.at + 8);
        return { kind: 'array', of, count, size: of.size * count };
      }
      case KIND.struct: {
        const fields = Array.from({ length: type.members }, (_, i) => {
          const at = type.at + 12 * i;
          return { name: nameAt(u32(at)), at: u32(at + 8) >>> 3, layout: layoutOf(u32(at + 4)) };
        });
        return { kind: 'struct', name: type.name, size: type.sizeOrType, fields };
      }
      default:
        throw new Fault('invalid', `BTF type ${id} (${type.name}) of kind ${type.kind} is in no map of ours`);
    }
  };
  return { layoutOf };
}

/** Of a map that was made with BTF, from the kernel; null for one that was not. @throws Fault */
export function mapLayout(map: BpfMap): { readonly key: Layout; readonly value: Layout } | null {
  const { btfId, btfKeyId, btfValueId } = map;
  if (btfId === 0 || btfKeyId === 0 || btfValueId === 0) return null;
  const { bpf } = native();
  const btf = bpf.btfLoadFromKernel(btfId);
  if (btf === null) throw errnoFault(-lastErrno(), `BTF ${btfId} of map ${map.name}`);
  try {
    const size: [number] = [0];
    const start = bpf.btfRawData(btf, size);
    if (start === null) throw new Fault('internal', `BTF ${btfId} of map ${map.name} has no content`);
    const { layoutOf } = parseBtf(new Uint8Array(koffi.view(start, Number(size[0]))).slice());
    return { key: layoutOf(btfKeyId), value: layoutOf(btfValueId) };
  } finally {
    bpf.btfFree(btf);
  }
}
