// SPDX-License-Identifier: Apache-2.0
// The datapath as tunnel-gw holds it: the loaded object with its pinned maps, the program on its ports, and the live control words.
// Programs, links and maps are pinned under a directory named by the ABI's hash, so they outlive this process and the next one takes over.
import { existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  type BpfMap,
  type BpfObject,
  type BpfProgram,
  type MappedArray,
  mapArray,
  openObject,
  unpin,
} from '@detour/bpf';
import { abi, frontRows } from '@detour/contracts';
import type { BankStore } from './bank.js';
import { ARRAY_ROWS, bankOfKey, HASH_TABLES } from './banked-maps.js';
import { PortLinks } from './port-links.js';
import { Predecessor } from './predecessor.js';
import type { RuleMemory } from './rule-halves.js';

export interface DatapathOptions {
  readonly objectPath: string;
  readonly pinDir: string; // on a bpffs; one directory for each ABI is made below it
  readonly maxFlows: number;
  readonly maxEmbryos: number;
  /** Lines of the rule table, of 64 bytes; the map has twice as many. */
  readonly ruleLines: number;
  /** Rows say a VRF's table by its rule device's ifindex, not by its id. */
  readonly lookupByRules: boolean;
  /** For tests: what a node returns is not known as such, and only the guard against loops is left. */
  readonly unmarked?: boolean;
}

const AT = abi.control.offsets;
/** Offsets of struct control, in 32-bit words. */
const WORD = {
  bank: AT.bank >> 2,
  live: AT.live >> 2,
  routeGen: AT.routeGen >> 2,
  rulesGen: AT.rulesGen >> 2,
  flowsGen: AT.flowsGen >> 2,
  frontMask: AT.frontMask >> 2,
  rulesHalf: AT.rulesHalf >> 2,
  rulesLines: AT.rulesLines >> 2,
} as const;

/** Owner of the object, its links and the mapped control words. Closing it leaves the pins, so packets go on. */
export class Datapath implements BankStore, Disposable {
  /** The program on its devices. */
  readonly ports: PortLinks;
  private readonly words: Int32Array;
  /** Memory of the rule table, both halves. */
  readonly ruleHalves: RuleMemory;

  private constructor(
    private readonly object: BpfObject,
    private readonly program: BpfProgram,
    private readonly control: MappedArray,
    private readonly rules: MappedArray,
    readonly pinDir: string,
    /** True when the maps were there already: another process left them, and they may hold flows. */
    readonly takenOver: boolean,
    /** Of another ABI, and at work until `ports.replacePredecessor`; null: there is none. */
    readonly predecessor: Predecessor | null,
  ) {
    this.words = new Int32Array(
      control.bytes.buffer,
      control.bytes.byteOffset,
      control.bytes.byteLength >> 2,
    );
    this.ports = new PortLinks({ program, pinDir, predecessor, isLive: () => this.live });
    this.ruleHalves = {
      words: new Uint32Array(rules.bytes.buffer, rules.bytes.byteOffset, rules.bytes.byteLength >> 2),
      lines: (rules.bytes.byteLength / abi.rulesLine.size) >>> 1,
      liveHalf: () => Atomics.load(this.words, WORD.rulesHalf + this.readBank()),
    };
  }

  static open(options: DatapathOptions): Datapath {
    const pinDir = join(options.pinDir, abi.ABI_HASH);
    const mapsDir = join(pinDir, 'maps');
    const predecessor = Predecessor.find(options.pinDir, abi.ABI_HASH);
    if (predecessor !== null) forgetAttempt(pinDir);
    const takenOver = existsSync(join(mapsDir, 'control'));
    mkdirSync(mapsDir, { recursive: true });
    mkdirSync(join(pinDir, 'links'), { recursive: true });
    const object = openObject(options.objectPath, {
      pinDir: mapsDir,
      maxEntries: {
        flows: options.maxFlows,
        embryos: options.maxEmbryos,
        flow_counters: options.maxFlows + options.maxEmbryos + 1,
        flow_front: frontRows(options.maxFlows),
        rules: abi.DetourLimit.DT_BANKS * options.ruleLines,
        snat_bindings: options.maxFlows,
        snat_inners: options.maxFlows,
      },
      rodata: { fib_by_table: options.lookupByRules ? 0 : 1, mark_returned: options.unmarked ? 0 : 1 },
    });
    const control = mapArray(object.map('control'));
    const rules = mapArray(object.map('rules'));
    const program = object.program('detour_edge');
    const datapath = new Datapath(object, program, control, rules, pinDir, takenOver, predecessor);
    Atomics.store(datapath.words, WORD.rulesLines, datapath.ruleHalves.lines);
    datapath.bumpFlows(); // a predecessor may have removed records and ended before it said so
    Atomics.store(datapath.words, WORD.frontMask, object.map('flow_front').maxEntries - 1);
    datapath.agreeOnLookup(options.lookupByRules);
    return datapath;
  }

  /**
   * A predecessor's rows may say tables in the other way. Then they are out of force until new ones are published: no packet is looked up
   * by a number that means something else. A directory says how, for files cannot be made here.
   */
  private agreeOnLookup(byRules: boolean): void {
    const mark = join(this.pinDir, 'by-rules');
    const marked = existsSync(mark);
    if (marked === byRules) return;
    Atomics.store(this.words, WORD.live, 0);
    this.bumpRoutes();
    if (byRules) mkdirSync(mark);
    else rmdirSync(mark);
  }

  map(name: string): BpfMap {
    return this.object.map(name);
  }

  get testProgram(): BpfProgram {
    return this.program;
  }

  // ---- control words

  readBank(): number {
    return Atomics.load(this.words, WORD.bank);
  }
  flip(bank: number): void {
    Atomics.store(this.words, WORD.bank, bank);
  }
  pointRules(bank: number, half: number): void {
    Atomics.store(this.words, WORD.rulesHalf + bank, half);
  }
  get live(): boolean {
    return Atomics.load(this.words, WORD.live) === 1;
  }
  /** Packets are steered: by these tables, or by those of a predecessor of another ABI. */
  get steers(): boolean {
    return this.live || this.predecessor?.isGone === false;
  }
  /** Generation of the rules that the records which are moved here were made by. */
  setRulesGen(gen: number): void {
    Atomics.store(this.words, WORD.rulesGen, gen | 0);
  }
  setLive(): void {
    Atomics.store(this.words, WORD.live, 1);
  }
  bumpRoutes(): void {
    if (Atomics.add(this.words, WORD.routeGen, 1) === -1) Atomics.add(this.words, WORD.routeGen, 1); // 0 means never
  }
  bumpRules(): number {
    return (Atomics.add(this.words, WORD.rulesGen, 1) + 1) >>> 0;
  }
  /** After records of established flows were replaced or removed: what the datapath keeps of them elsewhere is stale. */
  bumpFlows(): void {
    Atomics.add(this.words, WORD.flowsGen, 1);
  }
  get rulesGen(): number {
    return Atomics.load(this.words, WORD.rulesGen) >>> 0;
  }
  setHashKey(key: bigint): void {
    this.control.view.setBigUint64(AT.hashKey, key, true);
  }
  setPuntLimits(perSecond: number, burst: number): void {
    this.control.view.setUint32(AT.puntRate, perSecond, true);
    this.control.view.setUint32(AT.puntBurst, burst, true);
  }

  /** How many new flows a source address may begin here; `askShare`: of them, the share (0 to 1) that is asked about all the same. */
  setBeginLimits(perSecond: number, burst: number, askShare: number): void {
    this.control.view.setUint32(AT.beginRate, perSecond, true);
    this.control.view.setUint32(AT.beginBurst, burst, true);
    this.control.view.setUint32(AT.askShare, Math.round(askShare * 65_536), true);
  }

  // ---- banked tables

  write(table: string, key: Uint8Array, value: Uint8Array): void {
    this.object.map(table).update(key, value);
  }
  remove(table: string, key: Uint8Array): void {
    const map = this.object.map(table);
    if (HASH_TABLES.has(table)) map.delete(key);
    else if (table !== 'selections') map.update(key, new Uint8Array(map.valueSize)); // no chain names a selection of nslots 0
  }
  wipe(bank: number): void {
    for (const table of HASH_TABLES) {
      const map = this.object.map(table);
      for (const key of [...map.keys()]) if (bankOfKey(table, key) === bank) map.delete(key);
    }
    for (const [table, rows] of Object.entries(ARRAY_ROWS)) {
      const map = this.object.map(table);
      const zero = new Uint8Array(map.valueSize);
      const key = new Uint32Array(1);
      const value = new Uint8Array(map.valueSize);
      for (let i = 0; i < rows; i++) {
        key[0] = bank * rows + i;
        const bytes = new Uint8Array(key.buffer);
        if (map.lookupInto(bytes, value) && value.some((byte) => byte !== 0)) map.update(bytes, zero);
      }
    }
  }

  [Symbol.dispose](): void {
    this.ports[Symbol.dispose]();
    this.predecessor?.[Symbol.dispose]();
    this.control.close();
    this.rules.close();
    this.object.close();
  }
}

/** A successor of another ABI that ended before its program was on any device left tables that are worth nothing. */
function forgetAttempt(pinDir: string): void {
  const [maps, links] = [join(pinDir, 'maps'), join(pinDir, 'links')];
  if (!existsSync(maps) || (existsSync(links) && readdirSync(links).length > 0)) return;
  for (const name of readdirSync(maps)) unpin(join(maps, name));
}
