// SPDX-License-Identifier: Apache-2.0
import { type Intent, parseFormula, parseIntent, type ServiceNode } from '@detour/intent';
import { describe, expect, it } from 'vitest';
import type { Measured, Reading } from './attributes.js';
import { GatewayReadings } from './gateway-readings.js';
import { evaluateNode } from './score.js';
import { exampleIntent } from './testdata.js';

function intentOf(nodeLines: string, formula?: string): Intent {
  const parsed = parseIntent(
    exampleIntent({ nodeLines, ...(formula === undefined ? {} : { formula }) }),
    'intent.yaml',
  );
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems, null, 1));
  return parsed.intent;
}

const PROMETHEUS =
  'capacity: 100, maxConnections: 1000, attributes: { prometheus: { url: "http://127.0.0.1:1/m", every: 1s, staleAfter: 3s } }';
const reading = (value: number, atMs = 0, source: Reading['source'] = 'prometheus'): Reading => ({
  value,
  atMs,
  source,
  reporter: 'x',
});

interface Given {
  readonly lines: string;
  readonly formula?: string;
  readonly readings?: Partial<Record<Measured, Reading>>;
  readonly nowMs?: number;
  readonly gateways?: GatewayReadings;
  readonly smoothed?: Partial<Record<Measured, number>>;
  readonly counted?: readonly string[];
}

function evaluate({ lines, formula, readings = {}, nowMs = 0, smoothed = {}, ...more }: Given) {
  const intent = intentOf(lines, formula);
  const node = intent.nodes[0] as ServiceNode;
  const parsed = parseFormula(intent.scoring.default?.formula ?? '');
  if (!parsed.ok) throw new Error(parsed.message);
  return evaluateNode(parsed.formula, {
    node,
    readings: new Map(Object.entries(readings) as [Measured, Reading][]),
    nowMs,
    watchedSinceMs: 0,
    otherZoneFactor: 0.5,
    gateways: more.gateways ?? new GatewayReadings(),
    smoothed: (name) => smoothed[name],
    counted: more.counted ?? [],
  });
}

/** What gateways said, and when. */
function heard(
  ...said: readonly [gateway: string, values: Partial<Record<Measured, number>>, atMs: number][]
) {
  const gateways = new GatewayReadings();
  for (const [gateway, values, atMs] of said)
    gateways.take(gateway, new Map(Object.entries(values) as [Measured, number][]), atMs);
  return gateways;
}

describe('evaluateNode', () => {
  it('is the declared capacity where the document names no source, and says what counts as 0', () => {
    const result = evaluate({ lines: 'capacity: 40' });
    expect(result).toMatchObject({ kind: 'scored', score: 40, fresh: true, fault: null, dueMs: null });
    expect(result.why).toContain('cpu is not measured and no source is declared: counts as 0');
    expect(result.why).toContain('maxConnections is not declared: no limit');
    expect(result.inputs).toMatchObject({ capacity: 40, cpu: 0, zoneFactor: 1 });
  });

  it('takes the largest of cpu, memory and the share of connections', () => {
    const readings = { cpu: reading(0.9), memory: reading(0.2), connections: reading(500) };
    expect(evaluate({ lines: PROMETHEUS, readings })).toMatchObject({
      kind: 'scored',
      score: 10,
      fresh: true,
    });
    const full = { ...readings, connections: reading(2000) };
    expect(evaluate({ lines: PROMETHEUS, readings: full })).toMatchObject({ score: 0, fresh: true });
    expect(evaluate({ lines: PROMETHEUS, readings: full }).why).toContain('clamped to 0');
  });

  it('waits for a named source, and is stale once staleAfter has passed without it', () => {
    const some = { memory: reading(0.2), connections: reading(1) };
    expect(evaluate({ lines: PROMETHEUS, readings: some })).toMatchObject({
      kind: 'pending',
      why: 'no cpu from http://127.0.0.1:1/m yet',
      inputs: expect.objectContaining({ memory: 0.2 }),
      dueMs: 3000,
    });
    const late = evaluate({ lines: PROMETHEUS, readings: some, nowMs: 3001 });
    expect(late).toMatchObject({ kind: 'scored', score: 0, fresh: false, fault: { code: 'node_stale' } });
    expect(late.why).toContain('no cpu came from http://127.0.0.1:1/m within staleAfter 3000 ms');
  });

  it('is 0 once an input is older than staleAfter, and names the time of that', () => {
    const readings = { cpu: reading(0), memory: reading(0, 500), connections: reading(0, 1000) };
    expect(evaluate({ lines: PROMETHEUS, readings, nowMs: 3000 })).toMatchObject({ score: 100, dueMs: 3000 });
    const late = evaluate({ lines: PROMETHEUS, readings, nowMs: 3001 });
    expect(late).toMatchObject({ score: 0, fresh: false });
    expect(late.why).toBe('no cpu came any more from http://127.0.0.1:1/m within staleAfter 3000 ms');
  });

  it('asks for reports where the document does, whatever they name', () => {
    const lines = 'attributes: { report: { staleAfter: 2s } }';
    expect(evaluate({ lines })).toMatchObject({ kind: 'pending', why: 'no report yet', dueMs: 2000 });
    expect(evaluate({ lines, readings: { cpu: reading(0.5, 0, 'report') } })).toMatchObject({ score: 50 });
    expect(evaluate({ lines, nowMs: 2001 })).toMatchObject({ score: 0, fresh: false });
    const old = evaluate({ lines, readings: { cpu: reading(0.5, 0, 'report') }, nowMs: 2001 });
    expect(old.why).toContain('no cpu came any more from reports within staleAfter 2000 ms');
  });

  it('forgets what a gateway measured and no document asks for, instead of calling the node stale', () => {
    const readings = { loss: reading(0.5, 0, 'report') };
    expect(evaluate({ lines: 'capacity: 10', readings })).toMatchObject({ score: 5, dueMs: 15_000 });
    expect(evaluate({ lines: 'capacity: 10', readings, nowMs: 15_001 })).toMatchObject({
      score: 10,
      fresh: true,
    });
  });

  it('tells gateways of other zones what the formula gives with otherZoneFactor, where it names zoneFactor', () => {
    expect(evaluate({ lines: 'capacity: 40' })).toMatchObject({ score: 40, otherZone: 20 });
    const added = evaluate({ lines: 'capacity: 40', formula: 'capacity + zoneFactor' });
    expect(added).toMatchObject({ score: 41, otherZone: 40.5 });
    expect(evaluate({ lines: 'capacity: 40', formula: 'capacity' })).toMatchObject({ otherZone: null });
  });

  it("evaluates the operator's own formula; without a result the node is worth nothing, with an alarm", () => {
    const formula = 'min(capacity, 7) + 1';
    expect(evaluate({ lines: 'capacity: 40', formula })).toMatchObject({ score: 8, why: '' });
    const bad = evaluate({ lines: 'capacity: 40', formula: 'capacity / cpu' });
    expect(bad).toMatchObject({ score: 0, fresh: false, fault: { code: 'score_invalid' } });
    expect(bad.why).toContain('the formula gives Infinity for node fw1');
  });

  it('is given the mean of what gateways measured, and says whose word it is', () => {
    const formula = 'capacity / (1 + rttMs / 10) * (1 - loss)';
    const gateways = heard(
      ['edge2', { rttMs: 30, loss: 0.2, flows: 7 }, 0],
      ['edge1', { rttMs: 10, loss: 0 }, 0],
    );
    const result = evaluate({ lines: 'capacity: 90', formula, gateways });
    expect(result).toMatchObject({ kind: 'scored', score: 27, fresh: true, dueMs: 15_000, why: '' });
    expect(result.inputs).toMatchObject({ rttMs: 20, loss: 0.1, flows: 7 });
    expect(result.sources).toEqual({
      capacity: 'the intent',
      rttMs: 'mean of edge1 10, edge2 30',
      loss: 'mean of edge1 0, edge2 0.2',
      flows: 'sum of edge2 7',
    });
    expect(result.counted).toEqual(['loss', 'rttMs']);
  });

  it('loses nothing for want of what gateways measure, unless the document says that it must come and the formula names it', () => {
    const formula = 'capacity * (1 - loss)';
    const gateways = heard(['edge1', { loss: 0.5 }, 0]);
    const unasked = { lines: 'capacity: 10', formula };
    expect(evaluate({ ...unasked, nowMs: 99_000 })).toMatchObject({ score: 10, fresh: true });
    expect(evaluate({ ...unasked, gateways, nowMs: 15_000 })).toMatchObject({ score: 5 });
    expect(evaluate({ ...unasked, gateways, nowMs: 15_001 })).toMatchObject({ score: 10, fresh: true });

    const asked = { lines: 'capacity: 10, attributes: { gateways: { staleAfter: 2s } }', formula };
    expect(evaluate(asked)).toMatchObject({
      kind: 'pending',
      why: 'no loss from gateways yet',
      dueMs: 2_000,
    });
    expect(evaluate({ ...asked, gateways, nowMs: 2_000 })).toMatchObject({ score: 5, dueMs: 2_000 });
    const late = evaluate({ ...asked, gateways, nowMs: 2_001 });
    expect(late).toMatchObject({ score: 0, fresh: false, fault: { code: 'node_stale' } });
    expect(late.why).toBe('no loss came any more from gateways within staleAfter 2000 ms');
    expect(evaluate({ ...asked, formula: 'capacity', nowMs: 99_000 })).toMatchObject({
      score: 10,
      fresh: true,
    });
  });

  it('does not take what gateways say for the word of a node that must report', () => {
    const lines = 'attributes: { report: { staleAfter: 2s } }';
    const gateways = heard(['edge1', { loss: 0 }, 2_000]);
    const readings = { cpu: reading(0, 0, 'report') };
    expect(
      evaluate({ lines, formula: 'capacity * (1 - loss)', readings, gateways, nowMs: 2_001 }),
    ).toMatchObject({
      score: 0,
      fresh: false,
    });
  });

  it("prefers the exporter's or the agent's word where the document names it, and gateways' where it names those", () => {
    const formula = 'capacity * (1 - loss)';
    const gateways = heard(['edge1', { loss: 0.5 }, 0]);
    const metrics = 'prometheus: { url: "http://127.0.0.1:1/m", metrics: { loss: drops } }';
    const mapped = { lines: `attributes: { ${metrics}, gateways: {} }`, formula, gateways };
    expect(evaluate({ ...mapped, readings: { loss: reading(0.1) } })).toMatchObject({ score: 90 });
    const readings = { loss: reading(0.1, 0, 'report') };
    const agent = { formula, gateways, readings };
    expect(evaluate({ ...agent, lines: 'attributes: { report: {} }' })).toMatchObject({ score: 90 });
    expect(evaluate({ ...agent, lines: 'attributes: { report: {}, gateways: {} }' })).toMatchObject({
      score: 50,
    });
    expect(evaluate({ ...agent, lines: 'capacity: 100' })).toMatchObject({ score: 50 });
  });

  it('waits, when it has just started, for what gateways had measured of a published score', () => {
    const started = { lines: 'capacity: 10', formula: 'capacity * (1 - loss)', counted: ['loss'] };
    expect(evaluate(started)).toMatchObject({ kind: 'pending', dueMs: 15_000 });
    expect(evaluate({ ...started, nowMs: 15_001 })).toMatchObject({ score: 10, fresh: true });
  });

  it('gives the formula what was smoothed, and tells both', () => {
    const given = { lines: PROMETHEUS, formula: 'capacity * (1 - cpu)', readings: { cpu: reading(0.9) } };
    const result = evaluate({ ...given, smoothed: { cpu: 0.3 } });
    expect(result).toMatchObject({ score: 70, inputs: { cpu: 0.9 }, smoothed: { cpu: 0.3 } });
    expect(evaluate({ ...given, lines: 'capacity: 10', readings: {}, smoothed: { cpu: 0.3 } })).toMatchObject(
      {
        score: 10,
        smoothed: {},
      },
    );
  });
});
