// SPDX-License-Identifier: Apache-2.0
import { bfdDiag } from '@detour/wire';
import { describe, expect, it } from 'vitest';
import { type Echo, newEcho } from './echo-logic.js';
import { type Evidence, judgeHealth, noticeTimeUs } from './health.js';
import type { RouteState } from './loop-messages.js';
import { newSession, type Session } from './session-logic.js';

const down = newSession({ desiredMinTxUs: 50_000, requiredMinRxUs: 50_000, detectMult: 3 }, 1);
const up: Session = { ...down, state: 'up' };
const peerAdmin: Session = { ...down, remote: { ...down.remote, state: 'admin-down' } };
const expired: Session = { ...down, diag: bfdDiag.controlDetectionTimeExpired };
const echoDown = newEcho({ everyUs: 50_000, multiplier: 3 }, 2);
const echoUp: Echo = { ...echoDown, state: 'up' };
const echoLost: Echo = { ...echoDown, diag: bfdDiag.echoFunctionFailed };
const there: RouteState = { state: 'up', why: '' };
const unread: RouteState = { state: 'unknown', why: '' };
const withdrawn: RouteState = { state: 'down', why: 'no route to 10.0.0.0/8' };
const plain: Evidence = { control: up, echo: null, obstacle: null, grace: null };

describe('judgeHealth', () => {
  it.each<[string, Partial<Evidence>, string, string]>([
    ['control up, no echo asked', {}, 'up', ''],
    ['both up', { echo: echoUp }, 'up', ''],
    ['both up, TCP port too', { echo: echoUp, tcp: 'up' }, 'up', ''],
    ['both up, TCP port silent', { echo: echoUp, tcp: 'down' }, 'down', 'the TCP port does not answer'],
    [
      'both up, TCP port not asked yet',
      { echo: echoUp, tcp: 'unknown' },
      'down',
      'the TCP port has not been asked yet',
    ],
    [
      'no daemon expected, echo and TCP up',
      { control: down, noControl: true, echo: echoUp, tcp: 'up' },
      'up',
      '',
    ],
    ['no daemon expected, no echo asked, TCP up', { control: down, noControl: true, tcp: 'up' }, 'up', ''],
    [
      'no daemon expected, echo up, TCP down',
      { control: down, noControl: true, echo: echoUp, tcp: 'down' },
      'down',
      'the TCP port does not answer',
    ],
    [
      'no daemon expected, echo lost',
      { control: down, noControl: true, echo: echoLost, tcp: 'up' },
      'down',
      'echo lost: the node does not forward',
    ],
    [
      'no daemon expected, echo not back yet',
      { control: down, noControl: true, echo: echoDown, tcp: 'up' },
      'down',
      'no echo has returned yet',
    ],
    [
      'echo lost while the daemon answers',
      { echo: echoLost },
      'down',
      'echo lost: the node does not forward',
    ],
    ['echo not back yet', { echo: echoDown }, 'down', 'no echo has returned yet'],
    [
      'echo not back yet, just started',
      { echo: echoDown, grace: 'unknown' },
      'unknown',
      'handshake under way',
    ],
    ['peer silent, echo up', { control: expired, echo: echoUp }, 'down', 'control detection time expired'],
    ['never answered', { control: down }, 'down', 'peer has not answered'],
    ['just started', { control: down, grace: 'unknown' }, 'unknown', 'handshake under way'],
    ['AdminDown just lifted', { control: expired, grace: 'admin-down' }, 'admin-down', 'handshake under way'],
    [
      'no device, however young',
      { control: down, obstacle: 'no vti-a', grace: 'unknown' },
      'down',
      'no vti-a',
    ],
    ['peer admin-down', { control: peerAdmin }, 'admin-down', 'peer says admin-down'],
    [
      'peer admin-down and not forwarding',
      { control: peerAdmin, echo: echoLost },
      'down',
      'echo lost: the node does not forward',
    ],
    [
      'we admin-down',
      { control: { ...down, state: 'admin-down' }, obstacle: 'no vti-a' },
      'admin-down',
      'set admin-down here',
    ],
  ])('%s', (_name, change, state, why) => {
    expect(judgeHealth({ ...plain, ...change })).toEqual({ state, why, source: 'bfd' });
  });

  it.each<[string, Partial<Evidence>, string, string, string]>([
    ['control up, routes there', { route: there }, 'up', '', 'bfd'],
    ['control up, route withdrawn', { route: withdrawn }, 'down', 'no route to 10.0.0.0/8', 'bgp'],
    [
      'control up, echo up, route withdrawn',
      { echo: echoUp, route: withdrawn },
      'down',
      'no route to 10.0.0.0/8',
      'bgp',
    ],
    [
      'control up, routes not read',
      { route: unread },
      'down',
      'the routing table has not been read yet',
      'bfd',
    ],
    [
      'just started, routes not read',
      { route: unread, grace: 'unknown' },
      'unknown',
      'handshake under way',
      'bfd',
    ],
    [
      'the way to the node is lost, and the route with it',
      { control: expired, route: withdrawn },
      'down',
      'control detection time expired',
      'bfd',
    ],
    [
      'just started, route withdrawn',
      { control: down, route: withdrawn, grace: 'unknown' },
      'unknown',
      'handshake under way',
      'bfd',
    ],
    [
      'peer admin-down, route withdrawn',
      { control: peerAdmin, route: withdrawn },
      'down',
      'no route to 10.0.0.0/8',
      'bgp',
    ],
    [
      'peer admin-down, routes there',
      { control: peerAdmin, route: there },
      'admin-down',
      'peer says admin-down',
      'bfd',
    ],
    ['routes alone, there', { control: down, noControl: true, route: there }, 'up', '', 'bgp'],
    [
      'routes alone, withdrawn, just started',
      { control: down, noControl: true, route: withdrawn, grace: 'unknown' },
      'down',
      'no route to 10.0.0.0/8',
      'bgp',
    ],
    [
      'routes alone, not read, just started',
      { control: down, noControl: true, route: unread, grace: 'unknown' },
      'unknown',
      'first answers under way',
      'bfd',
    ],
    [
      'routes alone, not read',
      { control: down, noControl: true, route: unread },
      'down',
      'the routing table has not been read yet',
      'bfd',
    ],
    [
      'TCP port and routes, port silent',
      { control: down, noControl: true, tcp: 'down', route: there },
      'down',
      'the TCP port does not answer',
      'bfd',
    ],
    [
      'we admin-down, route withdrawn',
      { control: { ...down, state: 'admin-down' }, route: withdrawn },
      'admin-down',
      'set admin-down here',
      'bfd',
    ],
  ])('routes: %s', (_name, change, state, why, source) => {
    expect(judgeHealth({ ...plain, ...change })).toEqual({ state, why, source });
  });

  it('says how long a failure can go unnoticed', () => {
    const heard = { ...up, remote: { ...up.remote, detectMult: 5, minTxUs: 20_000 } };
    expect(noticeTimeUs(heard, null)).toBe(250_000);
    expect(noticeTimeUs({ ...heard, remote: { ...heard.remote, detectMult: 1 } }, echoUp)).toBe(150_000);
  });
});
