// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { claimDatapath } from './only-writer.js';

describe('claimDatapath', () => {
  it('gives a pin directory to one at a time', async () => {
    const mine = `/sys/fs/bpf/detour/claim-${process.pid}`;
    {
      await using _first = await claimDatapath(mine);
      await expect(claimDatapath(mine)).rejects.toMatchObject({
        code: 'conflict',
        detail: expect.stringContaining(`owns ${mine}: stop it first`),
      });
      await using _other = await claimDatapath(`${mine}-other`);
    }
    await using _again = await claimDatapath(mine);
  });
});
