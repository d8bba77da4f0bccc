// SPDX-License-Identifier: Apache-2.0
// What became of one packet, as the counters say it, held against the verdict; and the sums that must always agree.
import { abi } from '@detour/contracts';
import type { DeviceName } from './network.js';
import type { DropName, Outcome, Rig, StatName } from './rig.js';

const ENDS = {
  forwarded: 'STAT_FORWARDED',
  passed: 'STAT_PASSED',
  punted: 'STAT_PUNTED',
  dropped: 'STAT_DROPPED',
} as const;
type End = keyof typeof ENDS;
const END_NAMES = Object.keys(ENDS) as End[];
const DROP_NAMES = (Object.keys(abi.DropReason) as (keyof typeof abi.DropReason)[]).filter(
  (name): name is DropName => name !== 'DROP_NONE' && name !== 'DROP_REASONS',
);

/** `forwarded`, `passed`, `punted`, or the name of the drop reason. */
export interface Fate extends Outcome {
  readonly end: Exclude<End, 'dropped'> | DropName;
}

/** @throws Error when the packet was not counted exactly once, or otherwise than its verdict says. */
export function sendOne(rig: Rig, device: DeviceName, frame: Uint8Array): Fate {
  const read = (): bigint[] => [
    ...END_NAMES.map((end) => rig.stat(ENDS[end])),
    rig.stat('STAT_RX'),
    ...DROP_NAMES.map(rig.drops),
  ];
  const before = read();
  const outcome = rig.send(device, frame);
  const rose = read().map((value, index) => value - (before[index] ?? 0n));
  const ends = END_NAMES.filter((_, index) => rose[index] === 1n);
  const reasons = DROP_NAMES.filter((_, index) => rose[END_NAMES.length + 1 + index] === 1n);
  const risen = rose.reduce((sum, value) => sum + value, 0n);
  const [end] = ends;
  if (
    end === undefined ||
    ends.length !== 1 ||
    rose[END_NAMES.length] !== 1n ||
    risen !== 2n + BigInt(reasons.length)
  ) {
    throw new Error(
      `one packet, verdict ${outcome.verdict}, was counted as ${ends.join(' and ')} ${reasons.join(' and ')}`,
    );
  }
  if (end !== 'dropped') {
    const fits =
      end === 'forwarded'
        ? outcome.verdict === 'redirect'
        : end === 'punted'
          ? outcome.verdict === 'drop'
          : outcome.verdict !== 'drop';
    if (!fits || reasons.length > 0)
      throw new Error(`counted as ${end} ${reasons.join()}, but the verdict is ${outcome.verdict}`);
    return { ...outcome, end };
  }
  const [reason] = reasons;
  if (reason === undefined || reasons.length !== 1 || outcome.verdict !== 'drop') {
    throw new Error(`dropped for ${reasons.length} reasons (${reasons.join()}), verdict ${outcome.verdict}`);
  }
  return { ...outcome, end: reason };
}

/** What the sums over all counters say against one another; empty when they agree. */
export function disagreements(rig: Rig): string[] {
  const { DetourLimit: limit } = abi;
  const stats = Object.fromEntries(END_NAMES.map((end) => [end, rig.stat(ENDS[end])])) as Record<End, bigint>;
  const ports = { rx: 0n, forwarded: 0n, passed: 0n, punted: 0n, dropped: 0n };
  const found: string[] = [];
  for (let row = 0; row < limit.DT_MAX_PORTS; row++) {
    const [rx, forwarded, passed, punted, dropped] = [0, 2, 3, 4, 5].map((index) =>
      rig.count('port_counters', row, index),
    ) as [bigint, bigint, bigint, bigint, bigint];
    if (rx !== forwarded + passed + punted + dropped)
      found.push(`port ${row}: rx ${rx} is not the sum of its ends`);
    ports.rx += rx;
    ports.forwarded += forwarded;
    ports.passed += passed;
    ports.punted += punted;
    ports.dropped += dropped;
  }
  for (const end of END_NAMES)
    if (ports[end] !== stats[end]) found.push(`${end}: ports ${ports[end]}, stats ${stats[end]}`);
  let sent = 0n;
  for (let row = 0; row < limit.DT_SENT_ROWS; row++) sent += rig.count('sent', row, 0);
  if (sent !== stats.forwarded) found.push(`handed to devices ${sent}, forwarded ${stats.forwarded}`);
  if (ports.rx !== rig.stat('STAT_RX')) found.push(`rx: ports ${ports.rx}, stats ${rig.stat('STAT_RX')}`);
  const reasons = DROP_NAMES.reduce((sum, name) => sum + rig.drops(name), 0n);
  if (reasons !== stats.dropped) found.push(`drops by reason ${reasons}, dropped ${stats.dropped}`);
  return found;
}

/** How much a statistic rises while `act` runs. */
export function riseOf(rig: Rig, name: StatName, act: () => void): bigint {
  const before = rig.stat(name);
  act();
  return rig.stat(name) - before;
}
