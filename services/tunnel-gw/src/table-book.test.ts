// SPDX-License-Identifier: Apache-2.0
import { AffinityKind, ChainRow, OnFailure, OnNodeDown, OnRuleChange, SelectPolicy } from '@detour/contracts';
import { describe, expect, it } from 'vitest';
import type { GatewayModel } from './model.js';
import { TableBook } from './table-book.js';

const version = { epoch: 'e', sequence: 1n, revision: 4 };
const model = {
  revision: 4,
  pathNodes: new Map([
    [1, [7]],
    [2, [8]],
  ]),
} as unknown as GatewayModel; // the book reads nothing else of it

const chain = (paths: readonly (readonly [number, number])[], weight = 10) =>
  ChainRow.fromPartial({
    number: 1,
    name: 'inspect',
    onFailure: OnFailure.DROP,
    onNodeDown: OnNodeDown.REBALANCE,
    onRuleChange: OnRuleChange.REVALIDATE,
    affinity: AffinityKind.FIVE_TUPLE,
    select: SelectPolicy.WEIGHTED,
    paths: paths.map(([number, node]) => ({ number, nodes: [node], weight, fallbackWeight: weight })),
  });

describe('TableBook', () => {
  it('refuses paths that the revision does not have, naming row and reason', () => {
    const book = new TableBook();
    book.offerModel(model, 'e');
    const refused = (row: ChainRow) => book.offerPaths([row], version);
    expect(
      refused(
        chain([
          [1, 7],
          [3, 8],
        ]),
      ),
    ).toEqual({ ok: false, row: 'chain inspect', why: 'path 3 is unknown' });
    expect(
      refused(
        chain([
          [1, 7],
          [2, 7],
        ]),
      ),
    ).toMatchObject({ row: 'chain inspect', why: expect.stringMatching(/through nodes 7 instead of 8/) });
    expect(
      refused(
        chain([
          [1, 7],
          [1, 7],
        ]),
      ),
    ).toMatchObject({ row: 'chain inspect', why: 'path 1 occurs twice' });
    expect(refused(chain([[1, 7]], 0))).toMatchObject({
      row: 'chain inspect',
      why: expect.stringMatching(/total weight is 0/),
    });
    expect(
      refused(
        chain([
          [1, 7],
          [2, 8],
        ]),
      ),
    ).toEqual({ ok: true });
  });

  it('checks paths that came before their revision once it is there', () => {
    const book = new TableBook();
    book.offerRules([], version);
    expect(book.offerPaths([chain([[9, 7]])], version)).toEqual({ ok: true });
    book.offerModel(model, 'e');
    expect(book.complete()).toBeNull();
    expect(book.waitingFor()).toContain('path 9 is unknown');
    expect(book.offerPaths([chain([[1, 7]])], version)).toEqual({ ok: true });
    expect(book.complete()).toMatchObject({ chains: [{ paths: [{ number: 1 }] }] });
  });
});
