// SPDX-License-Identifier: Apache-2.0
// What this machine must offer, looked at before anything is touched: one clear error that names all that is missing.
import { ensureBpffs, probeFeatures, requireFeatures } from '@detour/bpf';

/** @throws Fault `missing_feature` or `permission` naming each missing feature and its remedy. */
export async function requireMachine(bpffs: string): Promise<void> {
  ensureBpffs(bpffs);
  requireFeatures(await probeFeatures({ bpffs }));
}
