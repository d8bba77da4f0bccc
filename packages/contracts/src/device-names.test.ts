// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { tunnelMacAddress } from './device-names.js';

it('gateways have MAC addresses of their own in a tunnel that they share, from IPv4 as it is and from IPv6 folded', () => {
  expect(tunnelMacAddress('192.0.2.1')).toBe('02:44:c0:00:02:01');
  expect(tunnelMacAddress('192.0.2.2')).toBe('02:44:c0:00:02:02');
  const six = Array.from({ length: 256 }, (_, i) => tunnelMacAddress(`2001:db8::${i.toString(16)}`));
  expect(new Set(six).size).toBe(256);
  expect(six.every((mac) => /^02:44(:[0-9a-f]{2}){4}$/.test(mac))).toBe(true);
  expect(() => tunnelMacAddress('edge1')).toThrow(/edge1/);
});
