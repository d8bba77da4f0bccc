// SPDX-License-Identifier: Apache-2.0
// What operations says that a flow takes in the kernel is what the kernel accounts for the maps.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { openObject } from '../../packages/bpf/src/index.js';
import { frontRows } from '../../packages/contracts/src/index.js';
import { readDocument, root, tableAfter } from './documents.js';

const FLOWS = 1 << 17;
/** Rows of the document, and the maps that they are about. */
const MAPS: Readonly<Record<string, readonly string[]>> = {
  'gateway, kernel: record': ['flows'],
  'gateway, kernel: counters': ['flow_counters'],
  'gateway, kernel: front rows, the next power of two': ['flow_front'],
  'gateway, kernel: places for SNAT bindings': ['snat_bindings', 'snat_inners'],
};
/** Kernels differ by a word or two in what they keep beside an element. */
const SPARE = 0.1;

it('bytes of a flow in the kernel', () => {
  execFileSync('flock', [`${root}datapath/Makefile`, 'make', '-s', '-C', `${root}datapath`]);
  const sizes = { flows: FLOWS, flow_counters: FLOWS, flow_front: frontRows(FLOWS) };
  using edge = openObject(`${root}datapath/build/edge.bpf.o`, {
    maxEntries: { ...sizes, snat_bindings: FLOWS, snat_inners: FLOWS },
  });
  const accounted = (name: string) =>
    Number(/^memlock:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${edge.map(name).fd}`, 'utf8'))?.[1]);
  const said = tableAfter(readDocument('docs/operations.md'), 'checked: flow sizes');
  for (const [what, maps] of Object.entries(MAPS)) {
    const bytes = maps.reduce((sum, name) => sum + accounted(name), 0) / FLOWS;
    const [low = Number.NaN, high = low] = [
      ...(said.find(([row]) => row === what)?.[1] ?? '').matchAll(/\d+/g),
    ].map(Number);
    expect([what, bytes >= low * (1 - SPARE) && bytes <= high * (1 + SPARE), bytes]).toEqual([
      ...[what, true, bytes],
    ]);
  }
});
