// SPDX-License-Identifier: Apache-2.0
// Sessions and health as the messages of proto/detour/v1/bfd.proto.

import type { BfdSession, HealthReport, NodeHealth } from '@detour/contracts';
import { HealthState } from '@detour/contracts';
import type { BfdState } from '@detour/wire';
import { describeDiag, type Health } from './health.js';
import type { HealthNews } from './health-board.js';
import type { HealthRow, SessionRow } from './loop-messages.js';

const healthStates: Readonly<Record<Health['state'], HealthState>> = {
  up: HealthState.UP,
  down: HealthState.DOWN,
  'admin-down': HealthState.ADMIN_DOWN,
  unknown: HealthState.UNKNOWN,
};

const stateNames: Readonly<Record<BfdState, string>> = {
  'admin-down': 'AdminDown',
  down: 'Down',
  init: 'Init',
  up: 'Up',
};

function nodeHealth({ node, vrf, state, source, why, atMonoNs, detectTimeUs }: HealthRow): NodeHealth {
  return {
    node,
    vrf,
    state: healthStates[state],
    source,
    why,
    atMonoNs,
    detectTimeUs: BigInt(Math.round(detectTimeUs)),
  };
}

export function healthReport(news: HealthNews): HealthReport {
  return { snapshot: news.complete, nodes: news.rows.map(nodeHealth), measured: [] };
}

export function sessionMessage(row: SessionRow): BfdSession {
  const { spec } = row;
  return {
    id: spec.id,
    node: spec.node,
    vrf: spec.vrf,
    device: spec.device,
    local: spec.local,
    peer: spec.peer,
    control: spec.noControl !== true,
    state: stateNames[row.state],
    remoteState: stateNames[row.remoteState],
    localDiscriminator: row.localDiscr,
    remoteDiscriminator: row.remoteDiscr,
    diag: describeDiag(row.diag),
    remoteDiag: describeDiag(row.remoteDiag),
    txIntervalUs: Math.round(row.txIntervalUs),
    remoteMinRxUs: row.remoteMinRxUs,
    remoteMinTxUs: row.remoteMinTxUs,
    detectMult: spec.timers.detectMult,
    remoteDetectMult: row.remoteDetectMult,
    detectTimeUs: BigInt(Math.round(row.detectTimeUs)),
    echo: row.echoState !== null,
    echoUp: row.echoState === 'up',
    echoDetectTimeUs: BigInt(Math.round(row.echoDetectTimeUs)),
    packetsIn: BigInt(row.packetsIn),
    packetsOut: BigInt(row.packetsOut),
    echoIn: BigInt(row.echoIn),
    echoOut: BigInt(row.echoOut),
    ups: row.ups,
    downs: row.downs,
    health: healthStates[row.health.state],
    why: row.health.why,
    source: row.health.source,
    route: row.route?.state ?? '',
    routePrefixes: [...(spec.route?.prefixes ?? [])],
  };
}
