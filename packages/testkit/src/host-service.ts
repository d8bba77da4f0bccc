// SPDX-License-Identifier: Apache-2.0
// A service's own wiring, run inside the test's process: real settings, real resources, closed in order when disposed.
import { type Clock, systemClock } from '@detour/core';
import {
  commonSettings,
  Readiness,
  ResourceStack,
  readSettings,
  type ServiceContext,
  type Settings,
} from '@detour/runtime';
import { pino } from 'pino';

export interface HostedService<Parts> extends AsyncDisposable {
  readonly parts: Parts;
  readonly readiness: Readiness;
  /** Prometheus text, as /metrics would give it. */
  metrics(): Promise<string>;
}

export interface HostSpec<S extends Settings, Parts> {
  readonly name: string;
  readonly settings: S;
  readonly wire: (ctx: ServiceContext<S>) => Promise<Parts>;
  readonly env: Readonly<Record<string, string>>;
  readonly clock?: Clock;
}

/** Runs a service's wiring; its log goes where DETOUR_LOG says (silent unless given). */
export async function hostService<S extends Settings, Parts>(
  spec: HostSpec<S, Parts>,
): Promise<HostedService<Parts>> {
  const env = { DETOUR_LOG: 'silent', ...spec.env };
  const config = readSettings({ ...commonSettings(), ...spec.settings }, env) as ServiceContext<S>['config'];
  const resources = new ResourceStack();
  const readiness = new Readiness();
  const life = new AbortController();
  let render = async () => '';
  try {
    const parts = await spec.wire({
      name: spec.name,
      config,
      log: pino({ level: config.logLevel }),
      signal: life.signal,
      resources,
      readiness,
      clock: spec.clock ?? systemClock(),
      metricsAddress: '127.0.0.1:9',
      serveMetrics: (given) => {
        render = given;
      },
      mixTraceIds: () => {},
      stop: (why) => life.abort(new Error(why)),
    });
    return {
      parts,
      readiness,
      metrics: () => render(),
      [Symbol.asyncDispose]: async () => {
        life.abort(new Error('the test ends'));
        await resources[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    life.abort(new Error('the wiring failed'));
    await resources[Symbol.asyncDispose]();
    throw error;
  }
}
