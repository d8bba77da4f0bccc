// SPDX-License-Identifier: Apache-2.0
import { bfdDiag } from '@detour/wire';
import { describe, expect, it } from 'vitest';
import { type Echo, newEcho } from './echo-logic.js';
import { type Evidence, judgeHealth, noticeTimeUs } from './health.js';
import { newSession, type Session } from './session-logic.js';

const down = newSession({ desiredMinTxUs: 50_000, requiredMinRxUs: 50_000, detectMult: 3 }, 1);
const up: Session = { ...down, state: 'up' };
const peerAdmin: Session = { ...down, remote: { ...down.remote, state: 'admin-down' } };
const expired: Session = { ...down, diag: bfdDiag.controlDetectionTimeExpired };
const echoDown = newEcho({ everyUs: 50_000, multiplier: 3 }, 2);
const echoUp: Echo = { ...echoDown, state: 'up' };
const echoLost: Echo = { ...echoDown, diag: bfdDiag.echoFunctionFailed };
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
    expect(judgeHealth({ ...plain, ...change })).toEqual({ state, why });
  });

  it('says how long a failure can go unnoticed', () => {
    const heard = { ...up, remote: { ...up.remote, detectMult: 5, minTxUs: 20_000 } };
    expect(noticeTimeUs(heard, null)).toBe(250_000);
    expect(noticeTimeUs({ ...heard, remote: { ...heard.remote, detectMult: 1 } }, echoUp)).toBe(150_000);
  });
});
