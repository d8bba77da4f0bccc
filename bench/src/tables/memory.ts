// SPDX-License-Identifier: Apache-2.0
/**
 * memory: bytes that one more flow, rule, path, VTI or (VRF, pair) row costs, in the kernel (as it accounts the maps) and in user space (V8's heap).
 *
 * Kernel maps are made at full size: a flow's cost is the difference between two sizes of table, divided by the flows between them; of all else its
 * share of the maps, both banks. What VTIs and rows cost tunnel-gw, and the kernel for their devices, is measured with the whole stack: `rows`, and
 * what a flow costs it: `failover.memory`.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { openObject } from '@detour/bpf';
import { abi, frontRows } from '@detour/contracts';
import { buildSelection, RuleImage } from '@detour/tables';
import { EDGE_OBJECT } from '../bpf-objects.js';
import type { Benchmark, Figure } from '../figure.js';
import { mapBytes } from './map-bytes.js';
import { makeRules } from './rule-set.js';

const SMALL = 1 << 17;
const LARGE = 1 << 18;
const EMBRYOS = 1 << 16;
const RULES = 100_000;
const PATHS = 500;
const LINE_BYTES = 64;
const MANY_FLOWS = 10_000_000;

export const memory: Benchmark = {
  name: 'memory',
  what: 'bytes per flow, rule, path, VTI and row, in the kernel and in user space',
  run: (context) => {
    context.progress.step('memory: maps of two sizes');
    const [small, large] = [measureMaps(SMALL), measureMaps(LARGE)];
    const perFlow = (large.flows - small.flows) / (LARGE - SMALL);
    const counters = large.rules / abi.DetourLimit.DT_MAX_RULES;
    const perPath = large.paths / abi.DetourLimit.DT_MAX_PATHS;
    context.progress.step('memory: rules in user space');
    const rules = heapOf(() => makeRules(RULES));
    const compiled = heapOf(() => compile(rules.made));
    const lines = (2 * compiled.made.lines * LINE_BYTES) / RULES;
    const selection = buildSelection(
      Array.from({ length: PATHS }, (_, i) => ({ path: i + 1, weight: 1 })),
      1,
    );
    return Promise.resolve([
      bytes('memory.flow[kernel]', perFlow, {
        'at 10 M flows, GB': Number(((perFlow * MANY_FLOWS) / 1e9).toFixed(2)),
      }),
      bytes('memory.rule[kernel]', counters + lines, { ofThemCounters: Math.round(counters) }),
      bytes('memory.path[kernel]', perPath, { what: 'both banks, without hops' }),
      bytes('memory.rule[user]', (rules.bytes + compiled.bytes) / RULES, {
        ofThemCompiled: Math.round(compiled.bytes / RULES),
      }),
      bytes('memory.path[user]', selection.byteLength / PATHS, { what: 'slots of a chain with 500 paths' }),
      bytes('memory.vti[kernel]', large.vti, { what: 'maps alone, both banks' }),
      bytes('memory.row[kernel]', large.row, { what: 'maps alone, both banks; with its path' }),
      bytes('memory.fixed[kernel]', large.all - large.flows, {
        what: 'everything but flows and their counters',
      }),
    ]);
  },
};

function bytes(name: string, value: number, detail: Readonly<Record<string, number | string>>): Figure {
  return { name, value: Math.round(value), unit: 'B', runs: 1, spread: 0, detail };
}

function compile(rules: ReturnType<typeof makeRules>): RuleImage {
  const image = new RuleImage({ copies: 2 });
  image.apply({ upserts: rules, removes: [] });
  return image;
}

type Elements = Readonly<Record<string, number>>;
/** Elements of each map that a VTI with one address takes, in one bank. */
const OF_VTI: Elements = { ports: 1, port_numbers: 1, egress: 1, tunnels: 1, hops: 1, own: 1 };
/** And a (VRF, pair) row, with two addresses for each member and a path through it. */
const OF_ROW: Elements = { ports: 4, node_tunnels: 1, hops: 2, own: 4, paths: 1 };

/** Maps whose size goes by that of the flow table. */
const FLOW_MAPS = ['flows', 'flow_counters', 'flow_front', 'snat_bindings', 'snat_inners'];

interface MapsMemory {
  readonly flows: number;
  readonly rules: number;
  readonly paths: number;
  readonly vti: number;
  readonly row: number;
  readonly all: number;
}

/** Bytes of maps of a gateway with a table of so many flows. */
function measureMaps(flows: number): MapsMemory {
  using edge = openObject(EDGE_OBJECT, {
    maxEntries: {
      ...{ flows, embryos: EMBRYOS, flow_counters: flows + EMBRYOS, flow_front: frontRows(flows) },
      ...{ snat_bindings: flows, snat_inners: flows },
    },
  });
  const of = (name: string): number => mapBytes(edge.map(name));
  const share = (elements: Elements): number =>
    Object.entries(elements).reduce(
      (sum, [name, count]) => sum + (abi.DetourLimit.DT_BANKS * count * of(name)) / edge.map(name).maxEntries,
      0,
    );
  return {
    flows: FLOW_MAPS.reduce((sum, name) => sum + of(name), 0),
    rules: of('rule_counters'),
    paths: of('paths'),
    vti: share(OF_VTI),
    row: share(OF_ROW),
    all: [...edge.maps.values()].reduce((sum, map) => sum + mapBytes(map), 0),
  };
}

function heapOf<T>(make: () => T): { made: T; bytes: number } {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  const before = used();
  const made = make();
  collect();
  return { made, bytes: used() - before };
}

function used(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
