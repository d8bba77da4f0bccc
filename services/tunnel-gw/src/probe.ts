// SPDX-License-Identifier: Apache-2.0
// What this machine must offer, looked at before anything is touched: one clear error that names all that is missing.
import { ensureBpffs, probeFeatures, probeFibLookupByTable, requireFeatures } from '@detour/bpf';

/** What a machine may have or not. */
export interface Abilities {
  /** Why VRFs are looked up by ip rules; null: by the ids of their tables. */
  readonly lookupByRules: string | null;
}

/**
 * Mounts the bpffs where it is missing, if it may: what a container mounts goes with the container, and the pins with it.
 * @throws Fault `missing_feature` or `permission` naming each missing feature and its remedy.
 */
export function requireMachine(
  bpffs: string,
  { mount, lookup }: { readonly mount: boolean; readonly lookup: 'auto' | 'rules' },
): Abilities {
  if (mount) ensureBpffs(bpffs);
  requireFeatures(probeFeatures({ bpffs }));
  if (lookup === 'rules') return { lookupByRules: 'DETOUR_VRF_LOOKUP says so' };
  const byTable = probeFibLookupByTable();
  return {
    lookupByRules: byTable.present ? null : `this kernel has no ${byTable.feature} (${byTable.detail})`,
  };
}
