// SPDX-License-Identifier: Apache-2.0
// VRFs on a kernel whose bpf_fib_lookup cannot read a routing table by its id: each table gets a device that stands for it, and two rules.
//
//   0: from all iif dtr100 lookup 100
//   0: from all iif dtr100 unreachable       what the table does not know is not looked up in any other
//   0: from all lookup local                 as the kernel has it; only behind ours
//
// Nothing ever enters by the device, which stays down: the rules are for the datapath's look-ups alone, and no packet of the machine's own
// meets them. They stand in front of the local table, so that an address which is the gateway's own in one VRF can be a host's in another;
// priority 0 is also what `ip rule flush` leaves alone. A table's names never change their meaning, so a successor takes over what it finds.
import { isRuleDevice, ruleDeviceName } from '@detour/contracts';
import { Fault } from '@detour/core';
import { readIp, runIpBatch } from '@detour/runtime';
import { DEVICE_ALIAS, enableForwarding, type LinkState, readLinks } from './devices.js';

/** One rule of `ip -N -j rule show`; a rule with other selectors has more members. */
export interface RoutingRule {
  readonly priority: number;
  readonly src?: string;
  readonly iif?: string;
  readonly table?: string;
  readonly action?: string;
}

const FAMILIES = ['-4', '-6'] as const;
const LOCAL = 'lookup 255';
/** Where the local table's rule waits for a moment while ours go in front of it: the machine is never without it. */
const ASIDE = 1;

/** Makes devices and rules of these tables exist. Returns the links as they are afterwards. */
export async function ensureVrfRules(
  tables: readonly number[],
  links: ReadonlyMap<string, LinkState>,
  sysctlDir?: string,
): Promise<ReadonlyMap<string, LinkState>> {
  const devices = tables.map(ruleDeviceName);
  const foreign = devices.find((device) => links.get(device)?.ours === false);
  if (foreign !== undefined)
    throw new Fault('conflict', `device ${foreign} exists and is not Detour's: rename it`);
  const made = devices.filter((device) => !links.has(device));
  await runIpBatch(
    made.flatMap((device) => [
      `link add ${device} type veth peer name ${device}x`,
      `link set dev ${device} alias ${DEVICE_ALIAS}`,
    ]),
  );
  enableForwarding(devices, sysctlDir);
  for (const family of FAMILIES) await runIpBatch(planRules(await readRules(family), tables), family);
  return made.length === 0 ? links : readLinks();
}

/** Removes the rules of all other tables; their devices go with the others that are not wanted any more (removeDevices). */
export async function removeVrfRules(kept: readonly number[]): Promise<void> {
  for (const family of FAMILIES) await runIpBatch(planRemoval(await readRules(family), kept), family);
}

/** What `ip -batch` must do so that the rules of these tables are in place. */
export function planRules(rules: readonly RoutingRule[], tables: readonly number[]): string[] {
  const local = localRule(rules);
  const missing = tables.filter((table) => {
    const { lookup, end } = placeOf(rules, table);
    return lookup < 0 || end < lookup || (local >= 0 && local < end);
  });
  const added = missing.flatMap((table) => addRules(rules, table));
  if (missing.length === 0 || rules[local]?.priority !== 0) return [...added, ...putLocalBack(rules)];
  return [
    ...(rules.some(isAside) ? [] : [`rule add priority ${ASIDE} ${LOCAL} protocol kernel`]),
    `rule del priority 0 ${LOCAL}`,
    ...added,
    `rule add priority 0 ${LOCAL} protocol kernel`,
    `rule del priority ${ASIDE} ${LOCAL}`,
  ];
}

/** What `ip -batch` must do so that only the rules of these tables are left. */
export function planRemoval(rules: readonly RoutingRule[], kept: readonly number[]): string[] {
  const names = new Set(kept.map(ruleDeviceName));
  return [
    ...rules.flatMap(({ priority, iif = '', table }) =>
      isRuleDevice(iif) && !names.has(iif)
        ? [
            `rule del priority ${priority} iif ${iif} ${table === undefined ? 'unreachable' : `lookup ${table}`}`,
          ]
        : [],
    ),
    ...putLocalBack(rules),
  ];
}

/** After a predecessor that ended in the middle of its work. */
function putLocalBack(rules: readonly RoutingRule[]): string[] {
  if (!rules.some(isAside)) return [];
  return [
    ...(localRule(rules) < 0 ? [`rule add priority 0 ${LOCAL} protocol kernel`] : []),
    `rule del priority ${ASIDE} ${LOCAL}`,
  ];
}

/** Each new rule goes behind those of its priority. */
function addRules(rules: readonly RoutingRule[], table: number): string[] {
  const { lookup, end } = placeOf(rules, table);
  const from = `priority 0 iif ${ruleDeviceName(table)}`;
  const lines = lookup < 0 ? [`rule add ${from} lookup ${table}`] : [];
  if (end >= 0 && (lookup < 0 || end < lookup)) lines.push(`rule del ${from} unreachable`);
  if (end < 0 || lookup < 0 || end < lookup) lines.push(`rule add ${from} unreachable`);
  return lines;
}

/** Where a table's two rules stand; -1: nowhere. */
function placeOf(rules: readonly RoutingRule[], table: number): { lookup: number; end: number } {
  const ours = (rule: RoutingRule) => rule.priority === 0 && rule.iif === ruleDeviceName(table);
  return {
    lookup: rules.findIndex((rule) => ours(rule) && rule.table === String(table)),
    end: rules.findIndex((rule) => ours(rule) && rule.table === undefined),
  };
}

/** Where the local table is looked up: at priority 0, or where the operator moved it. */
function localRule(rules: readonly RoutingRule[]): number {
  return rules.findIndex((rule) => isLocal(rule) && !isAside(rule));
}

function isAside(rule: RoutingRule): boolean {
  return isLocal(rule) && rule.priority === ASIDE;
}

function isLocal(rule: RoutingRule): boolean {
  const selectors = Object.keys(rule).filter((key) => !['priority', 'src', 'table'].includes(key));
  return rule.table === '255' && rule.src === 'all' && selectors.length === 0;
}

/** In the kernel's order, tables by number. */
function readRules(family: (typeof FAMILIES)[number]): Promise<RoutingRule[]> {
  return readIp<RoutingRule>('-N', family, 'rule', 'show');
}
