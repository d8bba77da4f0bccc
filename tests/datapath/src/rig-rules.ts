// SPDX-License-Identifier: Apache-2.0
// Rule tables in a rig's map of rules, compiled as tunnel-gw compiles them.
import type { mapArray } from '@detour/bpf';
import { RuleAction, RuleRow } from '@detour/contracts';
import { parsePrefix } from '@detour/core';
import { copyLines, LINE_WORDS, RuleImage } from '@detour/tables';
import { VRF } from './ends.js';

/** A rule about packets from anywhere, of the lower rank the higher its number. */
export function rule(number: number, fields: Partial<RuleRow>): RuleRow {
  const sources = [parsePrefix('0.0.0.0/0'), parsePrefix('::/0')].flatMap((prefix) => prefix ?? []);
  const action = RuleAction.CHAIN;
  return RuleRow.fromPartial({ number, priority: 100 - number, vrf: VRF, sources, action, ...fields });
}

/** `rules`: the map as memory; `lines`: how many a half of it has. */
export function writeRules(
  rules: Pick<ReturnType<typeof mapArray>, 'bytes'>,
  lines: number,
  half: 1 | 2,
  rows: readonly RuleRow[],
): void {
  const words = new Uint32Array(rules.bytes.buffer, rules.bytes.byteOffset, 2 * lines * LINE_WORDS);
  const image = new RuleImage({ copies: 1 });
  image.apply({ upserts: [...rows], removes: [] });
  copyLines(image.changes(0), words, (half - 1) * lines * LINE_WORDS);
}
