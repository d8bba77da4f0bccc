// SPDX-License-Identifier: Apache-2.0
// Memory of a BPF map, as the kernel accounts it.
import { readFileSync } from 'node:fs';
import type { BpfMap } from '@detour/bpf';

export function mapBytes(map: BpfMap): number {
  return Number(/^memlock:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${map.fd}`, 'utf8'))?.[1]);
}
