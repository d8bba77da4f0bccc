// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { DEFAULT_FORMULA, evaluateFormula, parseFormula } from './formula.js';

const ATTRIBUTES = {
  capacity: 100,
  maxConnections: 1000,
  connections: 250,
  cpu: 0.1,
  memory: 0.2,
  rttMs: 10,
  loss: 0.5,
  flows: 400,
  bytesPerSecond: 5e6,
  dropsPerSecond: 3,
  retransmissions: 0.02,
  zoneFactor: 1,
};

function scoreOf(text: string): number {
  const parsed = parseFormula(text);
  if (!parsed.ok) throw new Error(parsed.message);
  return evaluateFormula(parsed.formula, ATTRIBUTES);
}

describe('scoring formulas', () => {
  it.each([
    ['1 + 2 * 3', 7],
    ['(1 + 2) * 3', 9],
    ['10 - 2 - 3', 5],
    ['16 / 4 / 2', 2],
    ['min(3, 1, 2) + max(1, 5)', 6],
    ['capacity * (1 - cpu)', 90],
    ['capacity * (1 - max(connections, flows) / maxConnections)', 60],
    ['bytesPerSecond / 1000000 + dropsPerSecond', 8],
    [DEFAULT_FORMULA, 100 * (1 - 0.25) * 1 * 0.5 * 0.5],
  ])('%s', (text, value) => {
    expect(scoreOf(text)).toBeCloseTo(value, 10);
  });

  it.each([
    ['capacity * cpuu', 12],
    ['  1 + ', 6],
    ['1 2', 3],
    ['min(1; 2)', 6],
    ['(1 + 2', 7],
    ['cpu +\n  mem', 9],
  ])('names the character where %j goes wrong, and the names that there are', (text, character) => {
    const parsed = parseFormula(text);
    if (parsed.ok) throw new Error('it is accepted');
    expect(parsed.message).toContain(`(character ${character})`);
    if (parsed.message.includes('attribute'))
      expect(parsed.remedy).toContain('capacity, maxConnections, connections, cpu');
  });

  it.each([
    ['', 'its end'],
    ['1 +', 'its end'],
    ['1 2', '"2"'],
    ['cpuu', 'unknown attribute "cpuu"'],
    ['process.exit(1)', 'cannot be read at ".exit(1)"'],
    ['max(1', '")"'],
    ['constructor', 'unknown attribute'],
    [`${'('.repeat(40)}1${')'.repeat(40)}`, '32 levels'],
    ['1'.repeat(1001), '1000 characters'],
  ])('refuses %s', (text, message) => {
    expect(parseFormula(text)).toMatchObject({ ok: false, message: expect.stringContaining(message) });
  });
});
