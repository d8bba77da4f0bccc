// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { ResourceStack } from './resource-stack.js';

describe('ResourceStack', () => {
  it('closes in reverse order, one after the other, and goes on after a failure', async () => {
    const closed: string[] = [];
    const stack = new ResourceStack();
    stack.use({ [Symbol.dispose]: () => void closed.push('first') });
    stack.adopt('second', async (name) => {
      await Promise.resolve();
      closed.push(name);
    });
    stack.defer(() => {
      throw new Error('third fails');
    });
    stack.use({
      [Symbol.asyncDispose]: async () => {
        await Promise.resolve();
        closed.push('fourth');
      },
    });
    await expect(stack[Symbol.asyncDispose]()).rejects.toThrow(AggregateError);
    expect(closed).toEqual(['fourth', 'second', 'first']);
    await stack[Symbol.asyncDispose]();
    expect(closed).toHaveLength(3);
  });
});
