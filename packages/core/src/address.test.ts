// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatAddress,
  formatPrefix,
  maskPrefix,
  parseAddress,
  parsePrefix,
  prefixContains,
} from './address.js';

describe('addresses', () => {
  it.each([
    ['10.1.2.3', '10.1.2.3'],
    ['::1', '::1'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['::ffff:1.2.3.4', '1.2.3.4'],
    ['fe80::', 'fe80::'],
  ])('%s is written %s', (text, want) => {
    const parsed = parseAddress(text);
    expect(parsed === null ? null : formatAddress(parsed)).toBe(want);
  });

  it.each(['', '10.1.2', '10.1.2.256', 'fe80::1%eth0', '1::2::3', 'x'])('%j is no address', (text) => {
    expect(parseAddress(text)).toBeNull();
  });

  it('any 16 bytes survive text and back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        expect(parseAddress(formatAddress(bytes))).toEqual(bytes);
      }),
    );
  });
});

describe('prefixes', () => {
  it('knows its members', () => {
    const prefix = parsePrefix('10.1.0.0/16');
    const inside = parseAddress('10.1.255.1');
    const outside = parseAddress('10.2.0.0');
    if (!prefix || !inside || !outside) throw new Error('does not parse');
    expect(prefixContains(prefix, inside)).toBe(true);
    expect(prefixContains(prefix, outside)).toBe(false);
    expect(formatPrefix(prefix)).toBe('10.1.0.0/16');
  });
  it('masks host bits, and refuses lengths past the width', () => {
    const prefix = parsePrefix('10.1.2.3/20');
    if (!prefix) throw new Error('does not parse');
    expect(formatPrefix(maskPrefix(prefix))).toBe('10.1.0.0/20');
    expect(parsePrefix('10.0.0.0/33')).toBeNull();
    expect(parsePrefix('::/129')).toBeNull();
  });
});
