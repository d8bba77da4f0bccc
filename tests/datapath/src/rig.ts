// SPDX-License-Identifier: Apache-2.0
// The program loaded on its own, with its maps; packets are put through it by test runs, counters read as sums over CPUs.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  attachXdp,
  type BpfMap,
  type BpfProgram,
  mapArray,
  openObject,
  openRing,
  perCpuValues,
  progTestRun,
  type Ring,
} from '@detour/bpf';
import { abi } from '@detour/contracts';
import { type DeviceName, makeNetwork, makeRuleDevice, TABLE } from './network.js';

const DATAPATH = fileURLToPath(new URL('../../../datapath/', import.meta.url));

/** What became of a packet: the XDP verdict, and the bytes as they were left. */
export interface Outcome {
  readonly verdict: 'drop' | 'pass' | 'redirect';
  readonly data: Uint8Array;
}

export interface HeldEvent {
  readonly event: abi.Event;
  readonly packet: Uint8Array;
}

export interface Rig extends Disposable {
  readonly program: BpfProgram;
  readonly ifindex: Readonly<Record<DeviceName, number>>;
  /** How rows say that a VRF has this routing table. */
  tableRow(table: number): number;
  map(name: string): BpfMap;
  /** Changes fields of struct control, as tunnel-gw does, in place. */
  control(change: Partial<abi.Control>): void;
  put(map: string, key: Uint8Array | number, value: Uint8Array): void;
  remove(map: string, key: Uint8Array): void;
  send(device: DeviceName, frame: Uint8Array): Outcome;
  /** Sum over CPUs of the 64-bit counter at `index` of a row. */
  count(map: string, row: number, index: number): bigint;
  stat(name: StatName): bigint;
  drops(name: DropName): bigint;
  /** What is in the ring since the last call. */
  events(): HeldEvent[];
}

export type StatName = Exclude<keyof typeof abi.Stat, 'STATS'>;
export type DropName = Exclude<keyof typeof abi.DropReason, 'DROP_NONE' | 'DROP_REASONS'>;

export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

const VERDICTS: Readonly<Record<number, Outcome['verdict']>> = { 1: 'drop', 2: 'pass', 4: 'redirect' };

/** Compiles what changed. Several test processes may want that at once. */
function build(): string {
  execFileSync('flock', [`${DATAPATH}Makefile`, 'make', '-s', '-C', DATAPATH], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  return `${DATAPATH}build/`;
}

export interface RigOptions {
  /** Map sizes other than the small ones of tests. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Put the program itself on the devices, for packets that really arrive; else one that passes all holds their place. */
  readonly live?: boolean;
  /** False: what a node returns is not marked, and only the guard against loops is left. */
  readonly marks?: boolean;
  /** How the datapath finds a VRF's routing table; default: as DETOUR_VRF_LOOKUP says, else by its id. */
  readonly lookup?: 'table' | 'rules';
}

export function openRig(options: RigOptions = {}): Rig {
  const objects = build();
  const ifindex = makeNetwork();
  const maxEntries = {
    flows: 1024,
    embryos: 1024,
    flow_counters: 4096,
    flow_front: 1024,
    rules: 4096,
    ...options.sizes,
  };
  const byRules = (options.lookup ?? process.env.DETOUR_VRF_LOOKUP) === 'rules';
  const ruleDevices = new Map<number, number>();
  const tableRow = (table: number): number => {
    if (!byRules) return table;
    const device = ruleDevices.get(table) ?? makeRuleDevice(table);
    ruleDevices.set(table, device);
    return device;
  };
  tableRow(TABLE);
  const object = openObject(`${objects}edge.bpf.o`, {
    maxEntries,
    rodata: { fib_by_table: byRules ? 0 : 1, mark_returned: options.marks === false ? 0 : 1 },
  });
  const passer = openObject(`${objects}pass.bpf.o`);
  const program = object.program('detour_edge');
  const placed = options.live === true ? program : passer.program('detour_pass');
  const links = Object.values(ifindex).map((device) => attachXdp(placed, device, 'native'));
  const control = mapArray(object.map('control'));
  const held: HeldEvent[] = [];
  const ring: Ring = openRing(object.map('events'), (record) => {
    const event = abi.event.decode(record);
    held.push({ event, packet: record.slice(abi.event.size, abi.event.size + event.packetLen) });
  });
  const map = (name: string): BpfMap => object.map(name);
  const count = (name: string, row: number, index: number): bigint => {
    const stored = map(name).lookup(u32(row));
    if (stored === undefined) throw new Error(`map ${name} has no row ${row}`);
    return perCpuValues(map(name), stored).reduce(
      (sum, value) => sum + new DataView(value.buffer, value.byteOffset).getBigUint64(8 * index, true),
      0n,
    );
  };
  const bumpFlows = (): void => {
    const row = control.element(0);
    const words = abi.control.decode(row);
    abi.control.write({ ...words, flowsGen: words.flowsGen + 1 }, row);
  };
  return {
    program,
    ifindex,
    tableRow,
    map,
    count,
    control: (change) => {
      const row = control.element(0);
      abi.control.write({ ...abi.control.decode(row), ...change }, row);
    },
    put: (name, key, value) => {
      map(name).update(typeof key === 'number' ? u32(key) : key, value);
      if (name === 'flows') bumpFlows();
    },
    remove: (name, key) => {
      map(name).delete(key);
      if (name === 'flows') bumpFlows();
    },
    send: (device, frame) => {
      const run = progTestRun(program, { data: frame, ctx: { ifindex: ifindex[device] } });
      const verdict = VERDICTS[run.retval];
      if (verdict === undefined)
        throw new Error(`verdict ${run.retval} is none that this program may return`);
      return { verdict, data: run.data };
    },
    stat: (name) => count('stats', abi.Stat[name], 0),
    drops: (name) => count('drops', abi.DropReason[name], 0),
    events: () => {
      for (let read = ring.read(); read > 0; read = ring.read());
      return held.splice(0);
    },
    [Symbol.dispose]: () => {
      ring.close();
      control.close();
      for (const link of links) link.close();
      passer.close();
      object.close();
    },
  };
}
