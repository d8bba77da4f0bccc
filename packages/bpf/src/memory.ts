// SPDX-License-Identifier: Apache-2.0
// Maps descriptors into memory as typed arrays that stay safe to touch after they are unmapped.
import koffi from 'koffi';
import { errnoFault, lastErrno } from './errno.js';
import { native, type Pointer } from './native.js';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE_FIXED_ANONYMOUS_NORESERVE = 0x02 | 0x10 | 0x20 | 0x4000;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/** The kernel's page size. */
export function pageBytes(): number {
  return native().c.getpagesize();
}

export interface Mapping {
  readonly buffer: ArrayBuffer;
  /** Gives the memory up: the buffer reads as zeros from now on, and is unmapped when nothing refers to it any more. */
  release(): void;
}

const unmapCollected = new FinalizationRegistry(({ at, length }: { at: Pointer; length: number }) => {
  native().c.munmap(at, length);
});

/** mmap(MAP_SHARED) of `length` bytes at `offset`; `what` is named in the Fault when the kernel refuses. */
export function mapShared(
  fd: number,
  length: number,
  offset: number,
  writable: boolean,
  what: string,
): Mapping {
  const { c } = native();
  const at = c.mmap(null, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, offset);
  if (at === null || at === MAP_FAILED) throw errnoFault(lastErrno(), `${what}: mmap of ${length} bytes`);
  const buffer = koffi.view(at, length);
  unmapCollected.register(buffer, { at, length });
  const release = (): void => {
    // The buffer outlives this call in JavaScript: touching unmapped memory would end the process, so zeros take its place.
    c.mmap(at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE_FIXED_ANONYMOUS_NORESERVE, -1, 0);
  };
  return { buffer, release };
}
