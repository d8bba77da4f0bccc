// SPDX-License-Identifier: Apache-2.0
// Names in the documents are those in the code: drop reasons, alarms, limits, environment variables, metrics, exit codes, resources.
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EXIT_MEANINGS } from '../../cli/src/program.js';
import { RESOURCES } from '../../cli/src/resources.js';
import { ALARM_CODES, abi } from '../../packages/contracts/src/index.js';
import { MAX_CHAIN_HOPS, MAX_CHAIN_PATHS, NUMBER_LIMITS } from '../../packages/intent/src/index.js';
import { commonSettings } from '../../packages/runtime/src/common-settings.js';
import { bfdSettings } from '../../services/bfd/src/config.js';
import { settings as pathSelectorSettings } from '../../services/path-selector/src/config.js';
import { tunnelGwSettings } from '../../services/tunnel-gw/src/config.js';
import { checkedDocuments, codeIn, readDocument, root, tableAfter, trackedFiles } from './documents.js';

const operations = readDocument('docs/operations.md');
const SERVICES = ['classifier', 'path-selector', 'stats-collector', 'tunnel-gw', 'bfd'] as const;
const bare = (cell: string | undefined): string => (cell ?? '').replaceAll('`', '');
const reasons = Object.keys(abi.DropReason)
  .filter((name) => !['DROP_NONE', 'DROP_REASONS'].includes(name))
  .map((name) => name.replace('DROP_', '').toLowerCase());
const sourcesOf = (service: string): string =>
  trackedFiles(`services/${service}/src/*.ts`)
    .filter((path) => !/\.test\.ts$|testdata|\/testing\//.test(path))
    .map((path) => readFileSync(root + path, 'utf8'))
    .join('\n');

describe('drop reasons', () => {
  it('of operations are those of abi.h', () => {
    const rows = tableAfter(operations, 'checked: drop reasons');
    expect(rows.map(([reason]) => bare(reason)).sort()).toEqual([...reasons].sort());
    expect(rows.filter(([, why]) => why === '')).toEqual([]);
  });

  it('on the page about packets exist, and are not left out there', () => {
    const { text } = readDocument('docs/packet.md');
    const told = [...text.matchAll(/(?:dropped, |as |: |· )`([a-z_]+)`/g)].map(([, reason]) => reason ?? '');
    const verdicts = ['bypassed', 'bypass', 'backup'];
    expect(told.filter((reason) => !reasons.includes(reason) && !verdicts.includes(reason))).toEqual([]);
    const inside = ['no_table', 'inject', 'adjust']; // of the program itself, not of a kind of packet
    expect(reasons.filter((reason) => !told.includes(reason))).toEqual(inside);
  });
});

describe('alarms', () => {
  const rows = tableAfter(operations, 'checked: alarms');
  it('of operations are those that can be raised', () => {
    expect(rows.map(([code]) => bare(code)).sort()).toEqual([...ALARM_CODES].sort());
  });

  it.each(SERVICES)('of %s are those in its code', (service) => {
    const sources = sourcesOf(service);
    const raised = ALARM_CODES.filter((code) => new RegExp(`(?<!drop\\()'${code}'`).test(sources));
    const raisers = rows
      .filter(([, by]) => (by ?? '').split(', ').includes(service))
      .map(([code]) => bare(code));
    expect(raisers.sort()).toEqual(raised);
    const told = codeIn(readDocument(`services/${service}/README.md`).prose);
    expect(raised.filter((code) => !told.includes(code))).toEqual([]);
  });
});

it('limits of operations are those of the code', () => {
  const defaults = tunnelGwSettings();
  expect(
    Object.fromEntries(
      tableAfter(operations, 'checked: limits').map(([what, value]) => [
        what,
        Number(value?.replaceAll(',', '')),
      ]),
    ),
  ).toEqual({
    VRFs: NUMBER_LIMITS.vrfs,
    'ports of a gateway': NUMBER_LIMITS.ports,
    nodes: NUMBER_LIMITS.nodes,
    chains: NUMBER_LIMITS.chains,
    'hops of a chain': MAX_CHAIN_HOPS,
    'paths of a chain': MAX_CHAIN_PATHS,
    paths: NUMBER_LIMITS.paths,
    rules: NUMBER_LIMITS.rules,
    'packets held for one new flow': abi.DetourLimit.DT_PENDING_QUEUE,
    'bytes of a held packet': abi.DetourLimit.DT_PUNT_BYTES,
    'established flows, by default': Number(defaults.maxFlows.default),
    'half-open flows, by default': Number(defaults.maxEmbryos.default),
    'lines of rules, by default': Number(defaults.ruleLines.default),
  });
});

describe('environment variables', () => {
  const common = Object.values(commonSettings());
  const tables = [
    ['tunnel-gw', tunnelGwSettings()],
    ['bfd', bfdSettings()],
  ] as const;
  const own = [pathSelectorSettings, ...tables.map(([, settings]) => settings)].flatMap((settings) =>
    Object.values(settings),
  );
  const shown = (text: string | undefined): string => (text === '' ? '(empty)' : (text ?? 'required'));

  it('that all services have are in the table of packages/runtime', () => {
    const rows = tableAfter(readDocument('packages/runtime/README.md'), '| variable');
    const told = Object.fromEntries(rows.map(([name, value]) => [bare(name), bare(value)]));
    const real = common.map(({ variable, default: value }) => [variable, shown(value)]);
    expect(told).toEqual({ ...Object.fromEntries(real), DETOUR_INSTANCE: 'random' });
  });

  it.each(tables)('of %s are in its table', (service, settings) => {
    const rows = tableAfter(readDocument(`services/${service}/README.md`), '| variable');
    const told = Object.fromEntries(rows.map(([name, value]) => [bare(name), bare(value)]));
    const real = Object.values(settings).map(({ variable, default: value }) => [
      variable,
      shown(value).replace(root, ''),
    ]);
    expect(told).toEqual(Object.fromEntries(real));
  });

  it('of the path-selector are in its README with their defaults', () => {
    const { prose } = readDocument('services/path-selector/README.md');
    for (const { variable, default: value } of Object.values(pathSelectorSettings))
      expect(prose).toContain(`\`${variable}\` (${value})`);
  });

  it('of the other services are none', () => {
    for (const service of ['classifier', 'stats-collector'])
      expect(
        /(?:text|integer|list|path|flag|ratio|durationMs|hostPort)\('DETOUR_/.test(sourcesOf(service)),
      ).toBe(false);
  });

  it('of the command line are in its README', () => {
    const cli = trackedFiles('cli/src/*.ts').filter((path) => !path.endsWith('.test.ts'));
    const used = cli.flatMap(
      (path) => readFileSync(root + path, 'utf8').match(/DETOUR_(?!GATEWAY|ANNOUNCE)[A-Z_]+/g) ?? [],
    );
    const told = tableAfter(readDocument('cli/README.md'), '## Environment').map(([name]) => bare(name));
    expect(told.sort()).toEqual([...new Set(used)].sort());
  });

  it('that documents name exist', () => {
    const known = new Set(
      [...common, ...own]
        .map(({ variable }) => variable)
        .concat('DETOUR_AUTHOR', 'DETOUR_LOG_DIR', 'DETOUR_DATAPATH_DIR'),
    );
    const unknown = checkedDocuments().flatMap(({ path, text }) =>
      (text.match(/DETOUR_[A-Z_]+/g) ?? [])
        .filter((name) => !known.has(name))
        .map((name) => `${path}: ${name}`),
    );
    expect(unknown).toEqual([]);
  });
});

it.each(SERVICES)('files that the README of %s names exist', (service) => {
  const named = codeIn(readDocument(`services/${service}/README.md`).prose).filter((code) =>
    /^[a-z-]+\.ts$/.test(code),
  );
  expect(named.filter((file) => !existsSync(`${root}services/${service}/src/${file}`))).toEqual([]);
  expect(named.length).toBeGreaterThan(0);
});

it('metrics that documents name exist', () => {
  const sources = [
    ...SERVICES.map(sourcesOf),
    ...trackedFiles('packages/telemetry/src/*.ts').map((path) => readFileSync(root + path, 'utf8')),
  ].join('\n');
  const unknown = checkedDocuments().flatMap(({ path, prose }) =>
    codeIn(prose)
      .flatMap((code) => /^(detour_[a-z_]+?)(?:_total)?(?:\{.*\})?$/.exec(code)?.[1] ?? [])
      .filter((name) => !sources.includes(name) && name !== 'detour_edge' && name !== 'detour_guard')
      .map((name) => `${path}: ${name}`),
  );
  expect(unknown).toEqual([]);
});

describe('the command line', () => {
  const document = readDocument('cli/README.md');
  it('exit codes are those of the code', () => {
    const told = tableAfter(document, '## Exit codes').map(([code, meaning]) => [Number(code), meaning]);
    expect(told).toEqual(EXIT_MEANINGS.map((row) => [...row]));
  });

  it('resources and their filters are those of the code', () => {
    const told = tableAfter(document, '## Resources').map(([name, , filters]) => [
      bare(name),
      bare(filters).split(' ').filter(Boolean).sort(),
    ]);
    const real = Object.entries(RESOURCES).map(([name, { filters }]) => [
      name,
      filters.map((filter) => `--${filter}`).sort(),
    ]);
    expect(Object.fromEntries(told)).toEqual(Object.fromEntries(real));
  });
});
