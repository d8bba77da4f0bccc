// SPDX-License-Identifier: Apache-2.0
// Rows of a datapath of another ABI, carried into the maps of this one by the names of their fields: records of flows, SNAT bindings, fragments
// on their way, generations.
import {
  type BpfMap,
  type Conversion,
  type Layout,
  mapLayout,
  planConversion,
  readBatches,
  UpdateFlag,
} from '@detour/bpf';
import { abi } from '@detour/contracts';
import { Fault } from '@detour/core';
import { readFlowHead } from './flow-head.js';
import type { Predecessor } from './predecessor.js';

/** Embryos first: what is promoted meanwhile is then seen twice, never missed. */
const FLOWS = ['embryos', 'flows'] as const;
const OTHERS = ['snat_bindings', 'snat_inners', 'datagrams'] as const;
const OUT_AT = [0, 1].map((i) => abi.flow.offsets.out + i * abi.nexthop.size + abi.nexthop.offsets.gen);

export interface MovedCounts {
  readonly moved: number;
  /** That do not fit: their flows are decided anew, by their pins. */
  readonly left: number;
}

export interface MovedRowsOptions {
  readonly from: Predecessor;
  readonly to: (name: string) => BpfMap;
  /** Counter rows that there are. */
  readonly capacity: number;
  /** The action of a flow that nobody has decided: its packets ask again. */
  readonly pending: number;
}

interface Plan {
  readonly from: BpfMap;
  readonly to: BpfMap;
  readonly key: Conversion;
  readonly value: Conversion;
}

export class MovedRows {
  /** Counter rows of the flows that were moved. */
  readonly slots = new Set<number>();
  private readonly plans: ReadonlyMap<string, Plan>;

  /** @throws Fault when a table has fields that are another kind of thing by now. */
  constructor(private readonly options: MovedRowsOptions) {
    const { from, to } = options;
    this.plans = new Map(
      [...FLOWS, ...OTHERS].map((name) => {
        const [old, now] = [from.layout(name), layoutOf(to(name))];
        const key = planConversion(old.key, now.key);
        return [
          name,
          { from: from.map(name), to: to(name), key, value: planConversion(old.value, now.value) },
        ];
      }),
    );
  }

  /** `missing`: rows that are here already are newer, and stay. */
  async copy(which: 'all' | 'missing'): Promise<MovedCounts> {
    const counts = { moved: 0, left: 0 };
    for (const [name, plan] of this.plans) {
      const key = new Uint8Array(plan.to.keySize);
      const value = new Uint8Array(plan.to.storedSize);
      const isFlow = FLOWS.some((one) => one === name);
      for await (const { count, keys, values } of readBatches(plan.from, { chunk: 256 }))
        for (let i = 0; i < count; i++) {
          const { keySize, storedSize } = plan.from;
          const fits =
            plan.key(keys.subarray(i * keySize, (i + 1) * keySize), key) &&
            plan.value(values.subarray(i * storedSize, (i + 1) * storedSize), value);
          const kept = fits && (!isFlow || this.prepareFlow(value));
          if (kept === 'undecided') continue;
          if (kept && this.store(name, plan.to, { key, value, which })) counts.moved++;
          else counts.left++;
        }
    }
    return counts;
  }

  private store(
    name: string,
    map: BpfMap,
    { key, value, which }: { key: Uint8Array; value: Uint8Array; which: 'all' | 'missing' },
  ): boolean {
    const flag = which === 'missing' ? UpdateFlag.NOEXIST : UpdateFlag.ANY;
    const { to } = this.options;
    if (name === 'embryos' && which === 'missing' && to('flows').lookup(key) !== undefined) return true;
    const stored = map.tryUpdate(key, value, flag);
    if (stored === 'stored' && name === 'flows') to('embryos').delete(key);
    if (stored === 'stored' && FLOWS.some((one) => one === name)) this.noteSlot(readFlowHead(value).slot);
    return stored !== 'full';
  }

  private noteSlot(slot: number): void {
    if (slot !== 0) this.slots.add(slot); // 0 is nobody's: only its opening was seen
  }

  /** Ways out that it had cached are of other generations. False: its counter row is none here. */
  private prepareFlow(value: Uint8Array): boolean | 'undecided' {
    const flow = readFlowHead(value);
    if (flow.action === this.options.pending) return 'undecided';
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    for (const at of OUT_AT) view.setUint32(at, 0, true);
    return flow.slot < this.options.capacity;
  }
}

export function layoutOf(map: BpfMap): { readonly key: Layout; readonly value: Layout } {
  const layout = mapLayout(map);
  if (layout === null)
    throw new Fault('missing_feature', `map ${map.name} has no BTF: nothing can be moved into it`);
  return layout;
}

/** The only row of a map of the predecessor's, as it would be here. */
function onlyRow(from: Predecessor, name: string): { readonly row: Uint8Array; readonly layout: Layout } {
  const row = from.map(name).lookup(new Uint8Array(4));
  if (row === undefined) throw new Fault('internal', `map ${name} of the datapath before has no row`);
  return { row, layout: from.layout(name).value };
}

function fieldOf(layout: Layout, name: string): { readonly at: number; readonly layout: Layout } {
  const field = layout.kind === 'struct' ? layout.fields.find((one) => one.name === name) : undefined;
  if (field === undefined) throw new Fault('missing_feature', `the datapath before says no ${name}`);
  return field;
}

export function readControl(from: Predecessor): { readonly bank: number; readonly rulesGen: number } {
  const { row, layout } = onlyRow(from, 'control');
  const view = new DataView(row.buffer, row.byteOffset, row.byteLength);
  const word = (name: string): number => view.getUint32(fieldOf(layout, name).at, true);
  return { bank: word('bank'), rulesGen: word('rules_gen') };
}

/** Counter rows that its program has in advance and has not taken. */
export function readLent(from: Predecessor): number[] {
  const { row, layout } = onlyRow(from, 'free_slots');
  const view = new DataView(row.buffer, row.byteOffset, row.byteLength);
  const slot = fieldOf(layout, 'slot');
  const room = slot.layout.kind === 'array' ? slot.layout.count : 0;
  const [given, taken] = ['given', 'taken'].map((name) => view.getBigUint64(fieldOf(layout, name).at, true));
  const count = room === 0 ? 0 : Number((given ?? 0n) - (taken ?? 0n));
  return Array.from({ length: Math.max(0, Math.min(room, count)) }, (_, i) =>
    view.getUint32(slot.at + 4 * Number(((taken ?? 0n) + BigInt(i)) % BigInt(room)), true),
  );
}

/** Chains and their slots as they were live, in bank 0 of the new maps: generations go on from there, and records keep theirs. */
export function seedChains(from: Predecessor, to: (name: string) => BpfMap, bank: number): void {
  for (const name of ['chains', 'selections']) {
    const [old, now] = [from.map(name), to(name)];
    const convert = planConversion(from.layout(name).value, layoutOf(now).value);
    const rows = Math.min(old.maxEntries, now.maxEntries) / abi.DetourLimit.DT_BANKS;
    const value = new Uint8Array(now.valueSize);
    for (let number = 0; number < rows; number++) {
      const held = old.lookup(u32((bank * old.maxEntries) / abi.DetourLimit.DT_BANKS + number));
      if (held?.some((byte) => byte !== 0) && convert(held, value)) now.update(u32(number), value);
    }
  }
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
