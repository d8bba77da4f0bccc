// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { Health } from './health.js';
import { HealthBoard, type HealthNews } from './health-board.js';
import type { HealthRow } from './loop-messages.js';

const row = (id: string, state: Health['state']): HealthRow => ({
  id,
  node: id,
  vrf: '',
  end: null,
  state,
  why: '',
  source: 'bfd',
  atMonoNs: 1n,
  detectTimeUs: 0,
});
const said = (news: readonly HealthNews[]) =>
  news.map(({ complete, rows }) => [complete, rows.map(({ id, state }) => `${id} ${state}`)]);

describe('HealthBoard', () => {
  it('holds the snapshot back until every session has settled, and tells the settled ones meanwhile', () => {
    const board = new HealthBoard();
    const news: HealthNews[] = [];
    board.listen((one) => news.push(one));
    board.take([row('a', 'unknown'), row('b', 'down'), row('c', 'unknown')], true);
    board.take([row('a', 'up')], false);
    board.take([row('c', 'down')], false);
    board.take([row('c', 'up')], false);
    expect(said(news)).toEqual([
      [false, ['b down']],
      [false, ['a up']],
      [true, ['a up', 'b down', 'c down']],
      [false, ['c up']],
    ]);
  });

  it('tells nothing before the first set of sessions is known, an empty one included', () => {
    const board = new HealthBoard();
    const news: HealthNews[] = [];
    board.listen((one) => news.push(one));
    expect(news).toEqual([]);
    board.take([], true);
    expect(said(news)).toEqual([[true, []]]);
  });

  it('gives a later listener all there is, and tells new sessions as they are, unknown included', () => {
    const board = new HealthBoard();
    board.take([row('a', 'up')], true);
    const news: HealthNews[] = [];
    const stop = board.listen((one) => news.push(one));
    board.take([row('a', 'up'), row('b', 'unknown')], true);
    stop();
    board.take([row('b', 'up')], false);
    expect(said(news)).toEqual([
      [true, ['a up']],
      [true, ['a up', 'b unknown']],
    ]);
    expect(board.get('b')?.state).toBe('up');
  });

  it('leaves out what has not settled when a listener comes early', () => {
    const board = new HealthBoard();
    board.take([row('a', 'unknown'), row('b', 'up')], true);
    const news: HealthNews[] = [];
    board.listen((one) => news.push(one));
    expect(said(news)).toEqual([[false, ['b up']]]);
  });

  it('a session with both ends here is as good as the worse of them, told at once under node and VRF', () => {
    const board = new HealthBoard();
    const told: HealthNews[] = [];
    board.listen((news) => told.push(news));
    const end = (which: 'a' | 'b', state: Health['state']): HealthRow => ({
      ...row('svm', state),
      id: `svm/red/${which}`,
      vrf: 'red',
      end: which,
    });
    const last = () => told.at(-1)?.rows.map(({ id, state }) => [id, state]);
    board.take([end('a', 'up'), end('b', 'unknown')], true);
    expect(told).toEqual([]);
    board.take([end('b', 'up')], false);
    expect(last()).toEqual([['svm/red', 'up']]);
    board.take([end('b', 'down')], false);
    expect(last()).toEqual([['svm/red', 'down']]);
    board.take([end('a', 'down')], false);
    board.take([end('b', 'up')], false);
    expect(last()).toEqual([['svm/red', 'down']]);
    board.take([end('a', 'admin-down')], false);
    expect(last()).toEqual([['svm/red', 'admin-down']]);
    board.take([], true);
    expect(last()).toEqual([]);
  });
});
