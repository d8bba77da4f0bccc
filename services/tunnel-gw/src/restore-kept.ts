// SPDX-License-Identifier: Apache-2.0
// No controller has answered since start: the tables that a predecessor kept are brought into force.
import type { AlarmBook } from '@detour/bus';
import type { Log } from '@detour/core';
import { gatewayModel } from './desired.js';
import type { Gateway } from './gateway.js';
import type { KeptTables } from './kept-tables.js';
import type { GatewayModel } from './model.js';

export interface RestoreOptions {
  readonly kept: KeptTables;
  readonly gateway: Gateway;
  readonly name: string;
  readonly alarms: Pick<AlarmBook, 'raise'>;
  readonly log: Log;
}

/** The model that is in force, or on its way, by this; null when there was no need, or nothing to use. */
export async function restoreKept({
  kept,
  gateway,
  name,
  alarms,
  log,
}: RestoreOptions): Promise<GatewayModel | null> {
  const found = await kept.read();
  if (gateway.core.running !== null) return null;
  if (typeof found === 'string') {
    log.info({}, `no controller has answered yet, and ${found}`);
    return null;
  }
  const { revision } = found.revision;
  const model = gatewayModel(found.revision, name);
  if (!gateway.book.offerKept(model, found)) return null;
  const why = gateway.tablesChanged();
  if (why !== null) {
    log.warn({ revision }, `the tables kept of revision ${revision} cannot be used: ${why}`);
    return null;
  }
  const text = `no controller has answered since this start: the tables kept of revision ${revision} decide`;
  log.warn({ revision }, text);
  alarms.raise('tables_kept', '', text);
  return model;
}
