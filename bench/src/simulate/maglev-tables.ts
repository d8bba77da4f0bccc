// SPDX-License-Identifier: Apache-2.0
// The same chains by plain Maglev, which knows no weights: who is up shares evenly. To compare with.
import { slotCount } from '@detour/tables';
import { maglevTable } from '../tables/maglev.js';
import type { TableInForce } from './gateway-tables.js';

export interface MaglevTable {
  /** Slot → path number; empty when no path takes new flows. */
  readonly slots: Uint16Array;
  /** Numbers of the paths that take new flows. */
  readonly open: readonly number[];
}

export class MaglevTables {
  private readonly held = new Map<number, MaglevTable>();

  /** The table over the paths that take new flows now; the one of before while these are the same. */
  tableOf({ chain, members }: TableInForce): MaglevTable {
    const open = members.flatMap(({ path, weight }) => (weight > 0 ? [path] : []));
    const before = this.held.get(chain.number);
    if (before !== undefined && before.open.join() === open.join()) return before;
    const places = maglevTable(open.map(String), open.length === 0 ? 0 : slotCount(members.length));
    const table = { open, slots: places.map((place) => open[place] ?? 0) };
    this.held.set(chain.number, table);
    return table;
  }
}
