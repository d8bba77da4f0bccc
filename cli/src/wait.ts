// SPDX-License-Identifier: Apache-2.0
/** `apply --wait`: until every gateway runs a revision, one refuses it, or the time is over. */

import { watchInstances } from '@detour/bus';
import { type GatewayValue, stateKey } from '@detour/contracts';
import { systemClock } from '@detour/core';
import type { Intent } from '@detour/intent';
import type { Cluster } from './cluster.js';

/** Where one gateway stands with a revision. */
export interface GatewayProgress {
  readonly name: string;
  /** absent: no tunnel-gw of this name is alive. */
  readonly state: 'running' | 'refused' | 'pending' | 'absent';
  /** The revision that it runs; 0 for none. */
  readonly running: number;
  readonly why: string;
}

/** What a gateway reports of itself; undefined when the value is not of that shape. */
export function readGatewayValue(value: unknown): GatewayValue | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { running, refused, why, atMs } = value as Partial<Record<keyof GatewayValue, unknown>>;
  if (typeof running !== 'number' || typeof refused !== 'number') return undefined;
  return {
    running,
    refused,
    why: typeof why === 'string' ? why : '',
    atMs: typeof atMs === 'number' ? atMs : 0,
  };
}

/** The machines of an intent that run a tunnel-gw. */
export function gatewaysOf(intent: Intent): string[] {
  return [...intent.gateways, ...intent.hosts].map(({ name }) => name).sort();
}

/** Where each gateway stands now; `registered` are the gateways whose tunnel-gw is alive. */
export function progressOf(
  cluster: Cluster,
  intent: Intent,
  revision: number,
  registered: ReadonlySet<string>,
): GatewayProgress[] {
  return gatewaysOf(intent).map((name): GatewayProgress => {
    const value = readGatewayValue(cluster.mirror.get(stateKey.gateway(name))?.value);
    if (value !== undefined && value.running >= revision)
      return { name, state: 'running', running: value.running, why: '' };
    if (value !== undefined && value.refused === revision)
      return { name, state: 'refused', running: value.running, why: value.why };
    const running = value?.running ?? 0;
    if (registered.has(name))
      return { name, state: 'pending', running, why: 'it is there, and has not taken the revision yet' };
    const why =
      'no tunnel-gw of this name is registered: start it there, with DETOUR_GATEWAY set to this name';
    return { name, state: 'absent', running, why };
  });
}

/** Resolves once every gateway runs the revision or refused it, at the latest after the timeout. */
export async function waitForGateways(
  cluster: Cluster,
  want: { intent: Intent; revision: number; timeoutMs: number; signal: AbortSignal },
): Promise<GatewayProgress[]> {
  using instances = watchInstances({ mirror: cluster.mirror, service: 'tunnel-gw', clock: systemClock() });
  const progress = (): GatewayProgress[] => {
    const alive = new Set(instances.list().map(({ gateway }) => gateway));
    return progressOf(cluster, want.intent, want.revision, alive);
  };
  const settled = (): boolean => progress().every(({ state }) => state === 'running' || state === 'refused');
  if (!settled())
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        off();
        want.signal.removeEventListener('abort', finish);
        resolve();
      };
      const timer = setTimeout(finish, want.timeoutMs);
      const off = cluster.mirror.onChange(() => {
        if (settled()) finish();
      });
      want.signal.addEventListener('abort', finish);
    });
  return progress();
}
