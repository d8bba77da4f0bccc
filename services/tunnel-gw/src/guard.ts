// SPDX-License-Identifier: Apache-2.0
// The forwarding guard: an nftables chain that drops what the kernel itself would route across Detour's devices, so that nothing passes
// unsteered before the first revision, while a program is detached, or after this process ends. It is installed before forwarding is
// enabled, and stays when tunnel-gw stops.
import { GUARD_TABLE } from '@detour/contracts';
import { runTool } from './system.js';

/**
 * Replaces the guard's device set in one transaction. The set is only ever wrong in the safe direction: a device named here whose port is
 * gone is still guarded until the next revision is in force.
 */
export async function installGuard(devices: readonly string[]): Promise<void> {
  await runTool('nft', ['-f', '-'], guardRuleset(devices));
}

/** The ruleset text. An empty set guards nothing, but keeps the counters. */
export function guardRuleset(devices: readonly string[]): string {
  const names = [...new Set(devices)].sort().map((name) => `"${name}"`);
  const elements = names.length === 0 ? '' : `elements = { ${names.join(', ')} }`;
  return `table inet ${GUARD_TABLE} {}
delete table inet ${GUARD_TABLE}
table inet ${GUARD_TABLE} {
  set guarded { type ifname; ${elements} }
  chain forward {
    type filter hook forward priority -300; policy accept;
    iifname @guarded counter drop
    oifname @guarded counter drop
  }
}
`;
}

/** Removes the guard; only for an explicit clean-up of the machine, never at a stop. */
export async function removeGuard(): Promise<void> {
  await runTool('nft', ['-f', '-'], `table inet ${GUARD_TABLE} {}\ndelete table inet ${GUARD_TABLE}\n`);
}
