// SPDX-License-Identifier: Apache-2.0
import { abi, type ChainRow, OnFailure, OnNodeDown, SelectPolicy } from '@detour/contracts';
import { buildSelection, expandChain, type NodeState } from '@detour/tables';
import { describe, expect, it } from 'vitest';
import { ChainModels } from './chain-models.js';
import { SlotBook } from './slot-book.js';
import { chainRow, pathRow } from './testdata.js';

/** Puts rows into force, with each node's state. */
function take(models: ChainModels, rows: readonly ChainRow[], states: Record<number, NodeState> = {}) {
  const draft = models.draft(rows, (node) => states[node] ?? 'up');
  models.commit(draft);
  return draft;
}

describe('ChainModels', () => {
  it('expands a chain anew at every change of a node between unknown, up and down', () => {
    const models = new ChainModels(new Map());
    const row = chainRow({ paths: [pathRow(1, [7])] });
    const slotsAfter = (state: NodeState) => {
      take(models, [row], { 7: state });
      const { slots, gen } = models.get(1) ?? { slots: [], gen: 0 };
      return [slots.length > 0, gen];
    };
    expect(slotsAfter('unknown')).toEqual([false, 1]);
    expect(slotsAfter('up')).toEqual([true, 2]);
    expect(slotsAfter('up')).toEqual([true, 2]);
    expect(slotsAfter('down')).toEqual([false, 3]);
    expect(slotsAfter('unknown')).toEqual([false, 4]);
  });

  it('goes on counting from the generations of a predecessor; 0 is never given', () => {
    const models = new ChainModels(new Map([[1, 0xffff]]));
    take(models, [chainRow()]);
    expect(models.get(1)?.gen).toBe(1);
  });

  it('the generation moves with slots and path states, and with nothing else', () => {
    const models = new ChainModels(new Map());
    const genAfter = (change: Partial<ChainRow>, states: Record<number, NodeState> = {}) => {
      take(models, [chainRow(change)], states);
      return models.get(1)?.gen;
    };
    expect(genAfter({})).toBe(1);
    expect(genAfter({ onFailure: OnFailure.BYPASS, onNodeDown: OnNodeDown.KEEP, name: 'other' })).toBe(1);
    expect(genAfter({ idleTcpMs: 5n })).toBe(1);
    expect(genAfter({ paths: [pathRow(1, [1], 200), pathRow(2, [2])] })).toBe(2); // weights
    expect(genAfter({ paths: [pathRow(1, [1], 400), pathRow(2, [2], 200)] })).toBe(2); // the same shares
    expect(genAfter({ paths: [pathRow(1, [1], 0), pathRow(2, [2])] }, { 1: 'up' })).toBe(3);
    expect(genAfter({ paths: [pathRow(1, [1], 0), pathRow(2, [2])] }, { 1: 'down' })).toBe(4); // a path's state alone
    expect(
      genAfter(
        { select: SelectPolicy.PRIORITY, paths: [pathRow(1, [1], 0), pathRow(2, [2])] },
        { 1: 'down' },
      ),
    ).toBe(4);
  });

  describe('priority with preempt: false', () => {
    const row = chainRow({
      select: SelectPolicy.PRIORITY,
      keepsTier: true,
      paths: [pathRow(1, [1], 1000), pathRow(2, [2], 500)],
    });
    const used = (models: ChainModels, states: Record<number, NodeState>) => {
      take(models, [row], states);
      return models.get(1)?.paths.flatMap(({ number, weight }) => (weight > 0 ? [number] : []));
    };

    it('stays with the tier in use when a better one is back, and leaves it when it goes down', () => {
      const models = new ChainModels(new Map());
      expect(used(models, {})).toEqual([1]);
      expect(used(models, { 1: 'down' })).toEqual([2]);
      expect(used(models, {})).toEqual([2]);
      expect(used(models, { 1: 'down', 2: 'down' })).toEqual([]);
      expect(used(models, { 2: 'down' })).toEqual([1]);
      expect(used(models, {})).toEqual([1]);
    });

    it('a start waits for the better tier to be heard of; a restart goes on with what the slots name', () => {
      const fresh = new ChainModels(new Map());
      expect(used(fresh, { 1: 'unknown', 2: 'up' })).toEqual([2]);
      expect(used(fresh, {})).toEqual([1]);
      const restarted = new ChainModels(new Map(), new SlotBook(), () => new Set([2]));
      expect(used(restarted, { 1: 'unknown', 2: 'unknown' })).toEqual([]);
      expect(used(restarted, { 1: 'up', 2: 'unknown' })).toEqual([1]);
      const again = new ChainModels(new Map(), new SlotBook(), () => new Set([2]));
      expect(used(again, {})).toEqual([2]);
    });
  });

  it('PSEL-5 two gateways with the same table have the same slots, whatever tables one of them had before', () => {
    const table = chainRow({ paths: [pathRow(1, [1], 500), pathRow(2, [2], 300), pathRow(3, [3], 200)] });
    const [one, other] = [new ChainModels(new Map()), new ChainModels(new Map([[1, 7]]))];
    take(other, [chainRow({ paths: [pathRow(1, [1], 100), pathRow(3, [3], 900)] })]);
    take(other, [table], { 1: 'down' });
    for (const models of [one, other]) take(models, [table]);
    expect(new Set(one.get(1)?.slots)).toEqual(new Set([1, 2, 3]));
    expect(other.get(1)?.slots).toEqual(one.get(1)?.slots);
  });

  it('the datapath asks about every flow of a chain whose history decides', () => {
    const models = new ChainModels(new Map());
    for (const [select, history, decides] of [
      [SelectPolicy.WEIGHTED, null, 'opening'],
      [SelectPolicy.PRIORITY, null, 'opening'],
      [SelectPolicy.LOCAL, null, 'opening'],
      [SelectPolicy.RANDOM, 'random', 'none'],
      [SelectPolicy.ROUND_ROBIN, 'round-robin', 'none'],
      [SelectPolicy.LEAST_FLOWS, 'least-flows', 'none'],
    ] as const) {
      take(models, [chainRow({ select })]);
      expect(models.get(1)).toMatchObject({ history, decides });
    }
  });

  it('what did not change keeps its rows as objects, so that staging them costs nothing', () => {
    const models = new ChainModels(new Map());
    const rows = [
      chainRow({ number: 1, paths: [pathRow(1, [1])] }),
      chainRow({ number: 2, name: 'other', paths: [pathRow(2, [2])] }),
    ];
    const first = take(models, rows);
    const again = take(models, rows);
    expect(again.rows).toHaveLength(6);
    for (const [i, row] of again.rows.entries()) expect(row).toBe(first.rows[i]);
    const { rows: next } = take(models, rows, { 2: 'down' });
    expect(next.slice(0, 3).every((row, i) => row === first.rows[i])).toBe(true);
    expect(next.find((row) => row.table === 'paths' && row.id === 2)).not.toBe(first.rows[5]);
  });

  it('in a chain of many paths, states come first and slots when they are built', async () => {
    let letBuild = () => {};
    const allowed = new Promise<void>((resolve) => {
      letBuild = resolve;
    });
    const book = new SlotBook({
      build: async (members, chain) => {
        await allowed;
        return buildSelection(members, chain);
      },
      onError: (text) => expect.unreachable(text),
    });
    const models = new ChainModels(new Map(), book);
    const row = chainRow({ paths: Array.from({ length: 20 }, (_, i) => pathRow(i + 1, [i + 1])) });
    const up = (): NodeState => 'up';
    const lacking = models.lacking([row], up);
    expect(lacking.map(({ chain, members }) => [chain, members.length])).toEqual([[1, 20]]);
    expect(() => models.draft([row], up)).toThrow('not built yet');
    const first = book.build(lacking);
    letBuild();
    await first;
    expect(models.lacking([row], up)).toEqual([]);
    take(models, [row]);
    const { slots } = models.get(1) ?? { slots: new Uint16Array() };

    const down = (node: number): NodeState => (node === 3 ? 'down' : 'up');
    const quick = models.draft([row], down);
    models.commit(quick);
    expect(quick.due).toHaveLength(1);
    expect(models.get(1)).toMatchObject({ gen: 2, slots });
    expect(quick.rows.find(({ table }) => table === 'selections')?.value).toBe(
      models.draft([row], down).rows.find(({ table }) => table === 'selections')?.value,
    );
    const paths = models.get(1)?.paths ?? [];
    expect(paths.filter((path) => !path.up).map((path) => path.number)).toEqual([3]);
    expect(models.draft([row], down).entries.get(1)).toBe(quick.entries.get(1));

    await book.build(quick.due);
    const whole = models.draft([row], down);
    models.commit(whole);
    expect(whole.due).toEqual([]);
    expect(models.get(1)?.gen).toBe(3);
    expect(new Set(models.get(1)?.slots).has(3)).toBe(false);
    const whatItIs = expandChain(row, down);
    expect(models.get(1)).toMatchObject({ slots: whatItIs.slots, fingerprint: whatItIs.fingerprint });

    take(models, [row]); // it comes back: the table of before is remembered
    expect(models.get(1)).toMatchObject({ gen: 4, slots });
    const reweighed = { ...row, paths: row.paths.map((path, i) => ({ ...path, weight: 10 + i })) };
    expect(models.lacking([reweighed], up)).toEqual([]); // older slots over the same paths do until then
    const fewer = { ...row, paths: row.paths.slice(1) };
    expect(models.lacking([fewer], up)).toHaveLength(1);
    expect(models.draft([chainRow()], up).due).toEqual([]); // few paths: at once
  });

  it('a draft counts only when it is committed', () => {
    const models = new ChainModels(new Map());
    take(models, [chainRow()]);
    const before = models.all();
    models.draft([], () => 'down');
    models.draft([chainRow()], () => 'down');
    expect(models.all()).toBe(before);
    expect(models.get(1)).toMatchObject({ gen: 1, paths: [{ up: true }, { up: true }] });
  });

  it('a chain that goes and comes back counts on: no record takes its new generation for its old one', () => {
    const models = new ChainModels(new Map());
    take(models, [chainRow()]);
    take(models, [chainRow()], { 1: 'down' });
    take(models, []);
    expect(models.get(1)).toBeUndefined();
    take(models, [chainRow()]);
    expect(models.get(1)?.gen).toBe(3);
  });

  it('writes what the datapath reads: chain, selection, paths with their nodes in both directions', () => {
    const models = new ChainModels(new Map([[3, 9]]));
    const { rows } = take(
      models,
      [
        chainRow({
          number: 3,
          onFailure: OnFailure.BACKUP,
          backup: 4,
          onNodeDown: OnNodeDown.KEEP,
          mss: 1360,
          paths: [pathRow(11, [5, 6, 7])],
        }),
      ],
      { 6: 'unknown' },
    );
    const value = (table: string) => rows.find((row) => row.table === table)?.value ?? new Uint8Array();
    expect(abi.chain.decode(value('chains'))).toMatchObject({
      gen: 10,
      valid: 1,
      onFailure: abi.OnFailure.ON_FAILURE_BACKUP,
      backup: 4,
      onNodeDown: abi.OnNodeDown.ON_NODE_DOWN_KEEP,
      mss: 1360,
      nslots: 0, // a path of unknown state gets no new flows,
    });
    const path = abi.path.decode(value('paths'));
    expect(path).toMatchObject({ chain: 3, state: abi.PathState.PATH_UP, nhops: 3 }); // and keeps those that it has
    expect([...path.node.slice(0, 3)]).toEqual([5, 6, 7]);
    expect([...path.hop.slice(0, 3), ...path.hop.slice(8, 11)]).toEqual([5, 6, 7, 7, 6, 5]);
    take(models, [chainRow()]);
    const { slots } = models.get(1) ?? { slots: [] };
    const selection = models.draft([chainRow()], () => 'up').rows.find((row) => row.table === 'selections');
    const stored = abi.selection.decode(selection?.value ?? new Uint8Array());
    expect([...stored.path.slice(0, slots.length)]).toEqual([...slots]);
  });
});
