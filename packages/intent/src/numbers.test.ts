// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { type Numbers, numberIntent } from './numbers.js';
import { parseIntent } from './parse.js';
import { decodeRevision, encodeRevision, newSelectionKey, type Revision } from './revision.js';
import type { Intent } from './schema.js';

const HOUR_MS = 3_600_000;

/** A chain of a firewall and an IDS over the named nodes; `fw…` are firewalls, others IDSs. */
function intentOf(nodes: readonly string[], idle = '1h'): Intent {
  const rows = nodes.map((name, i) => {
    const service = name.startsWith('fw') ? 'firewall' : 'ids';
    return `  - { name: ${name}, service: ${service}, attach: { kind: gwlb, vrf: red, remote: 192.0.2.${i + 10} } }`;
  });
  const text = `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }]
gateways:
  - { name: e1, underlay: { device: eth0, address: 192.0.2.1 }, ports: [{ name: inside, kind: internal, device: eth1, vrf: red, classify: true }] }
  - { name: e2, underlay: { device: eth0, address: 192.0.2.2 }, ports: [{ name: inside, kind: internal, device: eth1, vrf: red, classify: true }] }
services: [{ name: firewall }, { name: ids }]
nodes:
${rows.join('\n')}
chains: [{ name: c, hops: [firewall, ids], idleTimeout: { tcp: ${idle} } }]
rules:
  - { name: r1, priority: 2, match: { vrf: red, protocol: tcp }, action: { chain: c } }
  - { name: r2, priority: 1, match: { vrf: red }, action: { chain: c } }
`;
  const result = parseIntent(text, 'f.yaml');
  if (!result.ok)
    throw new Error(result.problems.map(({ path, message }) => `${path} ${message}`).join('; '));
  return result.intent;
}

function number(intent: Intent, previous: Numbers | null, nowMs: number): Numbers {
  const result = numberIntent(intent, previous, nowMs);
  if (!result.ok) throw new Error(result.problems.map(({ message }) => message).join('; '));
  return result.numbers;
}

describe('numbers', () => {
  it('gives every path, rule, policy and port one, from 1', () => {
    const numbers = number(intentOf(['fw1', 'fw2', 'ids1']), null, 0);
    expect(numbers.paths).toEqual({ 'c@red:fw1,ids1': 1, 'c@red:fw2,ids1': 2 });
    expect(numbers.rules).toEqual({ r1: 1, r2: 2 });
    expect(numbers.policies).toEqual({ 'red/c': 1 });
    expect(numbers.ports).toEqual({ 'e1/inside': 1, 'e2/inside': 1 });
    expect(numbers.nodes).toEqual({ fw1: 1, fw2: 2, ids1: 3 });
  });

  it('keeps the number of a name, whatever comes and goes beside it', () => {
    const first = number(intentOf(['fw2', 'ids1']), null, 0);
    const second = number(intentOf(['fw1', 'fw2', 'ids0', 'ids1']), first, 1);
    expect(second.nodes.fw2).toBe(first.nodes.fw2);
    expect(second.nodes.ids1).toBe(first.nodes.ids1);
    expect(second.paths['c@red:fw2,ids1']).toBe(first.paths['c@red:fw2,ids1']);
    expect(new Set(Object.values(second.paths)).size).toBe(4);
    expect(new Set(Object.values(second.nodes)).size).toBe(4);
  });

  it('does not give a number away while a flow with it can be alive', () => {
    const first = number(intentOf(['fw1', 'fw2', 'ids1']), null, 0);
    const without = number(intentOf(['fw1', 'ids1']), first, 1000);
    const replaced = number(intentOf(['fw1', 'fw3', 'ids1']), without, 1000 + HOUR_MS - 1);
    expect(Object.values(replaced.nodes)).not.toContain(first.nodes.fw2);
    const later = number(intentOf(['fw1', 'fw4', 'ids1']), without, 1000 + HOUR_MS);
    expect(later.nodes.fw4).toBe(first.nodes.fw2);
  });

  it('rests numbers for the longest idle timeout, of before or of now', () => {
    const first = number(intentOf(['fw1', 'fw2', 'ids1'], '7d'), null, 0);
    const without = number(intentOf(['fw1', 'ids1'], '2h'), first, 0);
    const reusableAt = without.retired.find(({ key }) => key === 'fw2')?.reusableAt;
    expect(reusableAt).toBe(7 * 24 * HOUR_MS);
  });

  it('gives a name that comes back its own number, so that rolling back restores the tables', () => {
    const first = number(intentOf(['fw1', 'fw2', 'ids1']), null, 0);
    const without = number(intentOf(['fw1', 'ids1']), first, 1000);
    const back = number(intentOf(['fw1', 'fw2', 'ids1']), without, 2000);
    expect(back).toEqual({ ...first, retired: [] });
  });

  it('is a pure function of intent, previous numbers and time', () => {
    const intent = intentOf(['fw1', 'fw2', 'ids1', 'ids2']);
    expect(number(intent, null, 5)).toEqual(number(intent, null, 5));
  });

  it('says when numbers run out because others rest', () => {
    const chains = (prefix: string): Intent => {
      const base = intentOf(['fw1', 'ids1']);
      const rows = Array.from({ length: 40 }, (_, i) => ({ ...base.chains[0], name: `${prefix}${i}` }));
      return { ...base, chains: rows } as Intent;
    };
    const first = number(chains('a'), null, 0);
    expect(numberIntent(chains('b'), first, 1)).toMatchObject({
      ok: false,
      problems: [
        { code: 'numbers_exhausted', kind: 'chains', message: expect.stringContaining('40 of which rest') },
      ],
    });
  });
});

describe('stored revisions', () => {
  const intent = intentOf(['fw1', 'ids1']);
  const revision: Revision = {
    revision: 3,
    intent,
    numbers: number(intent, null, 0),
    selectionKey: newSelectionKey(),
    author: 'root@edge1',
    at: '2026-01-02T03:04:05.678Z',
    note: '',
  };

  it('read back as they were written, under their SHA-256', () => {
    const { text, sha256 } = encodeRevision(revision);
    expect(decodeRevision(text, sha256)).toEqual({ ok: true, revision });
    expect(encodeRevision(revision)).toEqual({ text, sha256 });
  });

  it('are refused when damaged, with the reason', () => {
    const { text, sha256 } = encodeRevision(revision);
    expect(decodeRevision(text.replace('root@edge1', 'root@edge2'), sha256)).toMatchObject({
      ok: false,
      why: expect.stringContaining('SHA-256'),
    });
    expect(decodeRevision(text.slice(0, -10))).toMatchObject({
      ok: false,
      why: expect.stringContaining('no JSON'),
    });
    expect(decodeRevision(text.replace('"revision":3', '"revision":0'))).toMatchObject({
      ok: false,
      why: expect.stringContaining('revision'),
    });
    expect(decodeRevision(text.replace('"table":100', '"table":0'))).toMatchObject({
      ok: false,
      why: expect.stringContaining('vrfs.0.table'),
    });
  });
});
