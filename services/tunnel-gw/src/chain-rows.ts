// SPDX-License-Identifier: Apache-2.0
// A chain's rows: itself, its selection table and its paths. Pure.
import { abi } from '@detour/contracts';
import type { Row } from './bank.js';
import type { ChainModel } from './model.js';
import { u32Key } from './row-bytes.js';

const { DetourLimit: LIMIT } = abi;

const ON_FAILURE = {
  drop: abi.OnFailure.ON_FAILURE_DROP,
  bypass: abi.OnFailure.ON_FAILURE_BYPASS,
  backup: abi.OnFailure.ON_FAILURE_BACKUP,
} as const;
const AFFINITY = {
  '5-tuple': abi.Affinity.AFFINITY_5_TUPLE,
  '3-tuple': abi.Affinity.AFFINITY_3_TUPLE,
  '2-tuple': abi.Affinity.AFFINITY_2_TUPLE,
  source: abi.Affinity.AFFINITY_SOURCE,
} as const;

const DECIDES = {
  none: abi.ChainDecides.DECIDES_NONE,
  opening: abi.ChainDecides.DECIDES_OPENING,
  any: abi.ChainDecides.DECIDES_ANY,
} as const;

/** The rows of one chain: itself, its selection and its paths. Chain 0 stands for flows without a chain. */
export function chainRows(chain: ChainModel): Row[] {
  const value = abi.chain.encode({
    gen: chain.gen,
    onFailure: ON_FAILURE[chain.onFailure],
    onNodeDown:
      chain.onNodeDown === 'keep' ? abi.OnNodeDown.ON_NODE_DOWN_KEEP : abi.OnNodeDown.ON_NODE_DOWN_REBALANCE,
    onRuleChange:
      chain.onRuleChange === 'keep'
        ? abi.OnRuleChange.ON_RULE_CHANGE_KEEP
        : abi.OnRuleChange.ON_RULE_CHANGE_REVALIDATE,
    affinity: AFFINITY[chain.affinity],
    valid: 1,
    decides: DECIDES[chain.decides],
    nslots: chain.slots.length,
    backup: chain.backup,
    mss: chain.mss,
  });
  const chainKey = (bank: number) => u32Key(bank * LIMIT.DT_MAX_CHAINS + chain.number);
  const rows: Row[] = [{ table: 'chains', id: chain.number, key: chainKey, value }];
  if (chain.slots.length > 0)
    rows.push({ table: 'selections', id: chain.number, key: chainKey, value: selectionValue(chain.slots) });
  for (const path of chain.paths) {
    const node = new Uint16Array(LIMIT.DT_MAX_PATH_HOPS);
    const hop = new Uint16Array(2 * LIMIT.DT_MAX_PATH_HOPS);
    node.set(path.nodes);
    hop.set(path.nodes);
    hop.set([...path.nodes].reverse(), LIMIT.DT_MAX_PATH_HOPS);
    const state = path.up ? abi.PathState.PATH_UP : abi.PathState.PATH_DOWN;
    rows.push({
      table: 'paths',
      id: path.number,
      key: (bank) => u32Key(bank * LIMIT.DT_MAX_PATHS + path.number),
      value: abi.path.encode({
        chain: chain.number,
        state,
        nhops: path.nodes.length,
        node,
        hop,
        heir: path.heir,
      }),
    });
  }
  return rows;
}

function selectionValue(slots: Uint16Array): Uint8Array {
  const value = new Uint8Array(abi.selection.size);
  value.set(new Uint8Array(slots.buffer, slots.byteOffset, slots.byteLength));
  return value;
}
