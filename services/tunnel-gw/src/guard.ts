// SPDX-License-Identifier: Apache-2.0
// The forwarding guard: an nftables chain that drops what the kernel itself would route across Detour's devices, so that nothing passes
// unsteered before the first revision, while a program is detached, or after this process ends. It is installed before forwarding is
// enabled, and stays when tunnel-gw stops.
import { GUARD_TABLE } from '@detour/contracts';
import { runTool } from '@detour/runtime';

/**
 * Puts the guard in place in one transaction. `devices` are all that it guards from then on; or, with `keep`, they are guarded beside those
 * that a predecessor named, whose program may have lost its ports meanwhile.
 */
export async function installGuard(
  devices: readonly string[],
  { keep = false }: { readonly keep?: boolean } = {},
): Promise<void> {
  await runTool('nft', ['-f', '-'], guardRuleset(devices, keep));
}

/** The ruleset text. With an empty set nothing is guarded. */
export function guardRuleset(devices: readonly string[], keep: boolean): string {
  const names = [...new Set(devices)].sort().map((name) => `"${name}"`);
  const table = `inet ${GUARD_TABLE}`;
  return [
    `add table ${table}`,
    `add set ${table} guarded { type ifname; }`,
    ...(keep ? [] : [`flush set ${table} guarded`]),
    ...(names.length === 0 ? [] : [`add element ${table} guarded { ${names.join(', ')} }`]),
    `add chain ${table} forward { type filter hook forward priority -300; policy accept; }`,
    `flush chain ${table} forward`,
    `add rule ${table} forward iifname @guarded counter drop`,
    `add rule ${table} forward oifname @guarded counter drop`,
    '',
  ].join('\n');
}

/** Removes the guard; only for an explicit clean-up of the machine, never at a stop. */
export async function removeGuard(): Promise<void> {
  await runTool('nft', ['-f', '-'], `table inet ${GUARD_TABLE} {}\ndelete table inet ${GUARD_TABLE}\n`);
}
