// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { parseRedisTarget } from './redis-target.js';

const read = (text: string) => {
  const parsed = parseRedisTarget(text);
  return parsed.ok ? parsed.value : parsed.why;
};

describe('parseRedisTarget', () => {
  it.each([
    ['unix:/run/r.sock', { kind: 'standalone', at: { path: '/run/r.sock' }, tls: false }],
    ['redis://h', { kind: 'standalone', at: { host: 'h', port: 6379 }, db: 0 }],
    ['redis://[::1]:7/3', { kind: 'standalone', at: { host: '::1', port: 7 }, db: 3 }],
    [
      'redis+sentinel://10.0.0.1:1,b/pins',
      {
        kind: 'sentinel',
        sentinels: [
          { host: '10.0.0.1', port: 1 },
          { host: 'b', port: 26379 },
        ],
        name: 'pins',
      },
    ],
    [
      'rediss+cluster://a:1,b:2',
      {
        kind: 'cluster',
        tls: true,
        nodes: [
          { host: 'a', port: 1 },
          { host: 'b', port: 2 },
        ],
      },
    ],
  ])('%s', (text, expected) => expect(read(text)).toMatchObject(expected));

  it('keeps user and password out of what is shown', () => {
    expect(read('redis+cluster://detour:s%40cret@a:1')).toEqual({
      kind: 'cluster',
      shown: 'redis+cluster://a:1',
      username: 'detour',
      password: 's@cret',
      tls: false,
      nodes: [{ host: 'a', port: 1 }],
    });
    expect(read('redis://:pw@a')).toMatchObject({ password: 'pw', shown: 'redis://a' });
  });

  it.each([
    ['localhost:6379', /redis:\/\/host:port/],
    ['redis://', /redis:\/\/host:port/],
    ['redis://a:0', /"a:0" is no host:port/],
    ['redis://a:65536', /no host:port/],
    ['redis://a,b', /say what the hosts are/],
    ['redis://a/x', /number as the database/],
    ['redis+sentinel://a,b', /name of the master/],
    ['redis+cluster://a/1', /no database/],
    ['redis+cluster://a,,b', /"" is no host:port/],
    ['redis://%zz@a', /percent-encoded/],
    ['unix:run/x', /redis:\/\/host:port/],
  ])('refuses %s', (text, why) => expect(read(text)).toMatch(why));
});
