// SPDX-License-Identifier: Apache-2.0
// What this machine must offer, looked at before anything is touched: one clear error that names all that is missing.
import { ensureBpffs, probeFeatures, requireFeatures } from '@detour/bpf';

/**
 * Mounts the bpffs where it is missing, if it may: what a container mounts goes with the container, and the pins with it.
 * @throws Fault `missing_feature` or `permission` naming each missing feature and its remedy.
 */
export async function requireMachine(bpffs: string, { mount }: { readonly mount: boolean }): Promise<void> {
  if (mount) ensureBpffs(bpffs);
  requireFeatures(await probeFeatures({ bpffs }));
}
