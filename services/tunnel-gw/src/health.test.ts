// SPDX-License-Identifier: Apache-2.0
import { HealthState } from '@detour/contracts';
import { describe, expect, it } from 'vitest';
import { HealthBook } from './health.js';

const report = (node: string, state: HealthState) => ({
  node,
  vrf: 'red',
  state,
  source: 'bfd',
  why: '',
  atMonoNs: 1n,
});
const red = (name: string) => ({ name, vrfName: 'red' });
const bookOf = (adminDownAction: 'keep' | 'failover' = 'keep') =>
  new HealthBook(({ name }) => ({ liveness: name !== 'unwatched', adminDownAction }));

describe('HealthBook', () => {
  it('keeps the last word of a bfd that is gone, shown as stale until its successor has spoken of that node', () => {
    const book = bookOf();
    const both = [report('fw1', HealthState.UP), report('fw2', HealthState.DOWN)];
    expect(book.take(true, both)).toEqual(['fw1/red', 'fw2/red']);
    book.lost('bfd does not answer');
    expect(book.viewOf(red('fw1'))).toMatchObject({ shown: HealthState.STALE, inForce: 'up' });
    expect(book.viewOf(red('fw2'))).toMatchObject({ shown: HealthState.STALE, inForce: 'down' });

    expect(book.take(false, [report('fw1', HealthState.UP)])).toEqual([]);
    expect(book.viewOf(red('fw1'))).toMatchObject({ shown: HealthState.UP, inForce: 'up' });
    expect(book.viewOf(red('fw2'))).toMatchObject({ shown: HealthState.STALE, inForce: 'down' });
    expect(book.viewOf(red('fw2')).why).toContain('has not said yet');
    expect(book.take(true, [report('fw1', HealthState.UP), report('fw2', HealthState.UP)])).toEqual([
      'fw2/red',
    ]);
    expect(book.viewOf(red('fw2'))).toMatchObject({ shown: HealthState.UP, inForce: 'up' });
  });

  it('drops what a snapshot does not name', () => {
    const book = bookOf();
    book.take(true, [report('fw1', HealthState.UP)]);
    expect(book.take(true, [])).toEqual(['fw1/red']);
    expect(book.viewOf(red('fw1'))).toMatchObject({ shown: HealthState.UNKNOWN, inForce: 'unknown' });
  });

  it('knows a node in each of its VRFs by itself', () => {
    const book = bookOf();
    const down = { ...report('fw1', HealthState.DOWN), vrf: 'blue' };
    expect(book.take(true, [report('fw1', HealthState.UP), down])).toEqual(['fw1/red', 'fw1/blue']);
    expect(book.viewOf(red('fw1')).inForce).toBe('up');
    expect(book.viewOf({ name: 'fw1', vrfName: 'blue' }).inForce).toBe('down');
  });

  it('AdminDown keeps the state or fails over, as the profile says; a node without a profile is up', () => {
    for (const [action, inForce] of [['keep', 'up'] as const, ['failover', 'down'] as const]) {
      const book = bookOf(action);
      book.take(true, [report('fw1', HealthState.UP)]);
      book.take(false, [report('fw1', HealthState.ADMIN_DOWN)]);
      expect(book.viewOf(red('fw1'))).toMatchObject({ shown: HealthState.ADMIN_DOWN, inForce });
      expect(book.viewOf(red('unwatched'))).toMatchObject({ shown: HealthState.UP, inForce: 'up' });
    }
  });
});
