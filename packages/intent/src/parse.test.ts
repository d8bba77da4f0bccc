// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { parseIntent } from './parse.js';
import type { Problem, ProblemCode } from './problem.js';

const FULL = readFileSync(new URL('../samples/full.yaml', import.meta.url), 'utf8');

/** The sample with one text replaced; the text must occur. */
function changed(from: string, to: string): string {
  expect(FULL, `the sample has no "${from}"`).toContain(from);
  return FULL.replace(from, () => to);
}

function problemsOf(text: string): readonly Problem[] {
  const result = parseIntent(text, 'f.yaml');
  return result.ok ? [] : result.problems;
}

/** Line and column, from 1, of the first occurrence of `needle` after `after`. */
function positionOf(text: string, needle: string, after = ''): { line: number; column: number } {
  const start = text.indexOf(after);
  const offset = text.indexOf(needle, start + after.length);
  const lines = text.slice(0, offset).split('\n');
  return { line: lines.length, column: (lines.at(-1)?.length ?? 0) + 1 };
}

describe('a correct document', () => {
  it("is accepted whole; of what it says, only that two nodes are one gateway's alone is told", () => {
    const result = parseIntent(FULL, 'full.yaml');
    const told = result.ok ? result.warnings : result.problems;
    expect(told.map(({ code, path }) => [code, path])).toEqual([
      ['gateway_bound', 'nodes[1].attach.gateway'],
      ['gateway_bound', 'nodes[2].attach.gateway'],
    ]);
  });

  it('is normalised: durations, percentages, ports, protocols, defaults', () => {
    const result = parseIntent(FULL, 'full.yaml');
    if (!result.ok) throw new Error('refused');
    const { intent } = result;
    expect(intent.nodes.find(({ name }) => name === 'fw1')).toMatchObject({
      maxShare: 0.6,
      nat: false,
      attributes: { prometheus: { every: 5000, staleAfter: 15_000 } },
      attach: { udpPort: 4789, strictReturn: true },
    });
    expect(intent.nodes.find(({ name }) => name === 'ids2')?.attach).toMatchObject({
      gateways: ['edge1', 'edge2'],
    });
    expect(intent.rules[0]).toMatchObject({
      name: 'web-out',
      match: {
        source: [{ kind: 'group', group: 'office' }],
        destination: [
          { kind: 'prefix', prefix: '0.0.0.0/0' },
          { kind: 'prefix', prefix: '::/0' },
        ],
        protocol: 6,
        destinationPorts: [
          [80, 80],
          [443, 443],
          [8000, 8099],
        ],
      },
      action: { kind: 'chain', chain: 'inspect' },
    });
    expect(intent.chains.find(({ name }) => name === 'inspect')).toMatchObject({
      hops: [
        { service: 'firewall', optional: false },
        { service: 'ids', optional: true },
      ],
      onFailure: { kind: 'backup', chain: 'firewall-only' },
      idleTimeout: { tcp: 3_600_000, udp: 120_000, other: 60_000 },
    });
    expect(intent.scoring.default).toMatchObject({
      hysteresis: 0.1,
      slowStart: 30_000,
      levels: { gold: 60 },
    });
    expect(intent.rules.map(({ priority }) => priority)).toEqual([100, 90, 80]);
    expect(Object.isFrozen(intent.nodes[0]?.attach)).toBe(true);
  });

  it('fills in the only VRF and the only gateway', () => {
    const result = parseIntent(
      `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }]
gateways: [{ name: edge1, underlay: { device: eth0, address: 192.0.2.1 } }]
services: [{ name: ids }]
nodes: [{ name: i, service: ids, attach: { kind: l3, device: eth5, nextHop: 10.0.0.2 } }]
`,
      'f.yaml',
    );
    if (!result.ok) throw new Error('refused');
    expect(result.intent.nodes[0]?.attach).toMatchObject({ vrf: 'red', gateway: 'edge1' });
    expect(result.warnings).toMatchObject([{ message: expect.stringContaining('no health profile') }]);
  });
});

/** Each kind of error as a change to the sample. */
interface ErrorCase {
  readonly title: string;
  readonly from: string;
  readonly to: string;
  readonly code: ProblemCode;
  /** What stands at the reported position. */
  readonly at: string;
  /** Text before it, where `at` occurs earlier too. */
  readonly after?: string;
  readonly says: string;
}
const ERRORS: readonly ErrorCase[] = parseYaml(
  readFileSync(new URL('../samples/errors.yaml', import.meta.url), 'utf8'),
);

describe('every kind of error names file, line, column, value and remedy', () => {
  it.each(ERRORS)('$title', ({ from, to, code, at, after, says }) => {
    const text = changed(from, to);
    const problems = problemsOf(text);
    const problem = problems.find((candidate) => candidate.code === code);
    expect(problems.map((candidate) => candidate.code)).toContain(code);
    expect({ line: problem?.line, column: problem?.column }).toEqual(positionOf(text, at, after));
    expect(problem?.file).toBe('f.yaml');
    expect(`${problem?.message}; ${problem?.remedy}`).toContain(says);
  });
});
