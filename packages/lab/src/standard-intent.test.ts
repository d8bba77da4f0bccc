// SPDX-License-Identifier: Apache-2.0
import { parseIntent } from '@detour/intent';
import { describe, expect, it } from 'vitest';
import { standardIntent } from './standard-intent.js';

describe('standardIntent', () => {
  it('is a valid document, for any number of firewalls', () => {
    for (const firewalls of [1, 2, 8]) {
      const parsed = parseIntent(JSON.stringify(standardIntent({ firewalls })), 'standard.json');
      expect(parsed.ok ? [] : parsed.problems).toEqual([]);
      expect(parsed.ok && parsed.intent.nodes.map((node) => node.name).at(-1)).toBe(`fw${firewalls}`);
    }
  });
});
