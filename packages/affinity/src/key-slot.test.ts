// SPDX-License-Identifier: Apache-2.0
import { askRedis, startRedis } from '@detour/testkit';
import { expect, it } from 'vitest';
import { keySlot } from './key-slot.js';

it('finds the slot that Redis finds', async () => {
  await using redis = await startRedis({ unix: false, args: ['--cluster-enabled', 'yes'] });
  for (const key of [
    'a',
    '123456789',
    'detour:flow:{1|6|10.0.0.1|1|10.0.0.2|2}',
    'x{}y',
    '{}{a}',
    '{a',
    'b}',
    'p{q{r}s}',
  ])
    expect(`${key} ${keySlot(key)}`).toBe(`${key} ${await askRedis(redis.url, 'CLUSTER', 'KEYSLOT', key)}`);
  expect(keySlot('p{x}q')).toBe(keySlot('x'));
});
