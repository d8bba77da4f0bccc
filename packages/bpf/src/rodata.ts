// SPDX-License-Identifier: Apache-2.0
// Sets a program's `const volatile` variables before it is loaded, found by name through the object's BTF.
import { Fault } from '@detour/core';
import koffi from 'koffi';
import { native, type Pointer } from './native.js';

export type RodataValue = number | bigint | Uint8Array;

/** linux/btf.h */
const BTF_KIND_DATASEC = 15;
const BTF_TYPE_BYTES = 12;
const VAR_SECINFO_BYTES = 12;

interface Variable {
  readonly offset: number;
  readonly size: number;
}

/**
 * Writes the values into the initial content of `.rodata`.
 * @throws Fault `not_found` for a variable that the object does not declare, `invalid` for a value that does not fit.
 */
export function setRodata(
  object: Pointer,
  path: string,
  values: Readonly<Record<string, RodataValue>>,
): void {
  if (Object.keys(values).length === 0) return;
  const content = rodataContent(object);
  const variables = rodataVariables(object);
  for (const [name, value] of Object.entries(values)) {
    const variable = variables.get(name);
    if (variable === undefined || content === undefined) {
      const known = [...variables.keys()].join(', ') || 'none';
      throw new Fault('not_found', `BPF object ${path} has no constant ${name}; it has ${known}`);
    }
    content.set(encode(name, value, variable.size), variable.offset);
  }
}

function rodataContent(object: Pointer): Uint8Array | undefined {
  const { bpf } = native();
  for (let map = bpf.nextMap(object, null); map !== null; map = bpf.nextMap(object, map)) {
    if (!bpf.mapName(map).endsWith('.rodata')) continue;
    const size: [number | bigint] = [0];
    const start = bpf.mapInitialValue(map, size);
    if (start !== null) return new Uint8Array(koffi.view(start, Number(size[0])));
  }
  return undefined;
}

function rodataVariables(object: Pointer): Map<string, Variable> {
  const { bpf } = native();
  const found = new Map<string, Variable>();
  const btf = bpf.objectBtf(object);
  if (btf === null) return found;
  const id = bpf.btfFindByNameKind(btf, '.rodata', BTF_KIND_DATASEC);
  const section = id < 0 ? null : bpf.btfTypeById(btf, id);
  if (section === null) return found;
  const count = new DataView(koffi.view(section, BTF_TYPE_BYTES)).getUint32(4, true) & 0xffff;
  const infos = new DataView(koffi.view(section + BigInt(BTF_TYPE_BYTES), count * VAR_SECINFO_BYTES));
  for (let i = 0; i < count; i++) {
    const at = i * VAR_SECINFO_BYTES;
    const variable = bpf.btfTypeById(btf, infos.getUint32(at, true));
    if (variable === null) continue;
    const nameOffset = new DataView(koffi.view(variable, BTF_TYPE_BYTES)).getUint32(0, true);
    const name = bpf.btfNameByOffset(btf, nameOffset);
    if (name !== null)
      found.set(name, { offset: infos.getUint32(at + 4, true), size: infos.getUint32(at + 8, true) });
  }
  return found;
}

function encode(name: string, value: RodataValue, size: number): Uint8Array {
  if (value instanceof Uint8Array) {
    if (value.length !== size)
      throw new Fault('invalid', `constant ${name}: ${value.length} bytes, it has ${size}`);
    return value;
  }
  const wide = BigInt(value);
  const bits = size * 8;
  if (size > 8 || (BigInt.asUintN(bits, wide) !== wide && BigInt.asIntN(bits, wide) !== wide)) {
    throw new Fault('invalid', `constant ${name}: ${value} does not fit its ${size} bytes`);
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, wide), true);
  return bytes.subarray(0, size);
}
