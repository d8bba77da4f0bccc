// SPDX-License-Identifier: Apache-2.0
import { AffinityKind, ChainRow, OnFailure, OnNodeDown, OnRuleChange, SelectPolicy } from '@detour/contracts';
import type { NodeState } from '@detour/tables';
import { describe, expect, it } from 'vitest';
import { ChainModels } from './chain-models.js';

const row = ChainRow.fromPartial({
  number: 1,
  name: 'inspect',
  onFailure: OnFailure.DROP,
  onNodeDown: OnNodeDown.REBALANCE,
  onRuleChange: OnRuleChange.REVALIDATE,
  affinity: AffinityKind.FIVE_TUPLE,
  select: SelectPolicy.WEIGHTED,
  paths: [{ number: 1, nodes: [7], weight: 1000, fallbackWeight: 1000 }],
});

describe('ChainModels', () => {
  it('expands a chain anew at every change of a node between unknown, up and down', () => {
    const models = new ChainModels(new Map());
    const slotsAfter = (state: NodeState) => {
      models.update([row], () => state);
      const { slots, gen } = models.get(1) ?? { slots: [], gen: 0 };
      return [slots.length > 0, gen];
    };
    expect(slotsAfter('unknown')).toEqual([false, 1]);
    expect(slotsAfter('up')).toEqual([true, 2]);
    expect(slotsAfter('up')).toEqual([true, 2]);
    expect(slotsAfter('down')).toEqual([false, 3]);
    expect(slotsAfter('unknown')).toEqual([false, 4]);
  });

  it('goes on counting from the generations of a predecessor', () => {
    const models = new ChainModels(new Map([[1, 0xffff]]));
    models.update([row], () => 'up');
    expect(models.get(1)?.gen).toBe(1);
  });
});
