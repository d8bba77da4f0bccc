// SPDX-License-Identifier: Apache-2.0
// The size of the map flow_front, for whoever loads the datapath.

/** Rows for a table of so many flows: a power of two, as control.front_mask has it. */
export function frontRows(flows: number): number {
  return 2 ** Math.max(1, Math.ceil(Math.log2(flows)));
}
