// SPDX-License-Identifier: Apache-2.0
// An array map as memory: for words that packets read at once, such as the live bank.
import { Fault } from '@detour/core';
import { type BpfMap, MapType } from './map.js';
import { mapShared, pageBytes } from './memory.js';

const BPF_F_MMAPABLE = 1 << 10;

export interface MappedArray extends Disposable {
  /** All elements; element i starts at i * stride. For words that others write meanwhile use Atomics on a typed array over it. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Bytes from one element to the next: the value size rounded up to 8. */
  readonly stride: number;
  /** The bytes of one element. */
  element(index: number): Uint8Array;
  close(): void;
}

/** @throws Fault `invalid` when the map is no array with BPF_F_MMAPABLE. */
export function mapArray(map: BpfMap): MappedArray {
  if (map.type !== MapType.ARRAY || (map.flags & BPF_F_MMAPABLE) === 0) {
    throw new Fault(
      'invalid',
      `map ${map.name} cannot be mapped: declare it as BPF_MAP_TYPE_ARRAY with BPF_F_MMAPABLE`,
    );
  }
  const stride = (map.valueSize + 7) & ~7;
  const used = stride * map.maxEntries;
  const length = Math.ceil(used / pageBytes()) * pageBytes();
  const mapping = mapShared(map.fd, length, 0, true, `map ${map.name}`);
  const bytes = new Uint8Array(mapping.buffer, 0, used);
  const close = mapping.release;
  return {
    bytes,
    view: new DataView(mapping.buffer, 0, used),
    stride,
    element: (index) => {
      if (Number.isInteger(index) && index >= 0 && index < map.maxEntries) {
        return bytes.subarray(index * stride, index * stride + map.valueSize);
      }
      throw new Fault('invalid', `map ${map.name}: element ${index} of ${map.maxEntries}`);
    },
    close,
    [Symbol.dispose]: close,
  };
}
