// SPDX-License-Identifier: Apache-2.0
// Flow records in the kernel as tunnel-gw writes and reads them: established flows, embryonic ones, and their counters.
import { type BpfMap, type MappedArray, mapArray, UpdateFlag } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { type FlowKey, PROTO } from '@detour/core';
import type { FlowDecision, FlowQuestion } from './decision.js';
import { readActivity } from './flow-head.js';
import type { FlowSlots } from './flow-slots.js';
import { isServiced, packFlowWord, unpackFlowWord } from './flow-word.js';

export interface FlowMaps {
  readonly flows: BpfMap;
  readonly embryos: BpfMap;
  readonly counters: BpfMap;
}

export interface FlowTableOptions {
  readonly maps: FlowMaps;
  readonly slots: FlowSlots;
  readonly nowMs: () => number;
  /** CLOCK_MONOTONIC, as the datapath writes it into records and counters. */
  readonly nowNs: () => bigint;
  readonly rulesGen: () => number;
  /** Generation of a chain in the live tables; 0 when it is not there. */
  readonly chainGen: (chain: number) => number;
  /** Told when a record of an established flow is another one now, so that the datapath reads it again. */
  readonly onReplaced: () => void;
  /** Whether packets that enter by this port come from the inside. */
  readonly isInside: (port: number) => boolean;
  /** Slots that were lent to the datapath come back, as far as it has not used them. */
  readonly takeBackSlots?: () => void;
}

const ACTION = {
  allow: { action: abi.FlowAction.FLOW_ALLOW, flags: 0 },
  drop: { action: abi.FlowAction.FLOW_DROP, flags: 0 },
  'unresolved-drop': { action: abi.FlowAction.FLOW_DROP, flags: abi.FlowWordFlag.WORD_FLAG_UNRESOLVED },
  steer: { action: abi.FlowAction.FLOW_STEER, flags: 0 },
} as const;

function actionOf({ action, programmed }: FlowDecision): { readonly action: number; readonly flags: number } {
  if (programmed === undefined) return ACTION[action];
  return { action: ACTION[programmed].action, flags: abi.FlowWordFlag.WORD_FLAG_PROGRAMMED };
}

const NO_WAY_OUT = { gen: 0, ifindex: 0, dmac: new Uint8Array(6), smac: new Uint8Array(6), mtu: 0, hop: 0 };
/** Outer UDP source ports (RFC 7348 section 5 recommends the dynamic range). */
const ENTROPY_BASE = 49152;
const ENTROPY_MASK = 0x3fff;

export class FlowTable implements Disposable {
  /** Counter rows as memory: cleared for each new flow and read for each flow of a sweep. */
  private readonly counterRows: MappedArray;

  constructor(private readonly options: FlowTableOptions) {
    this.counterRows = mapArray(options.maps.counters);
  }

  /**
   * Stores a decision for a flow without one. A flow that begins now is embryonic until its reply; one that was found in the middle
   * is established. False when there is no room: the flow stays undecided, and none of its packets pass.
   * `rulesGen`: of the rules that the decision is about; when they have changed meanwhile, the flow's next packet has it revalidated.
   * @throws Fault `invalid` for a decision whose numbers no record can hold; then nothing is stored.
   */
  install(question: FlowQuestion, decision: FlowDecision, rulesGen: number): boolean {
    const { maps, slots } = this.options;
    if (slots.available === 0) this.options.takeBackSlots?.();
    if (slots.available === 0) return false;
    const slot = slots.take(this.options.nowMs());
    let stored = false;
    try {
      const value = this.encode(question, decision, { slot, rulesGen });
      this.counterRows.element(slot).fill(0);
      const key = encodeFlowKey(question.key);
      const embryonic = question.syn || question.key.proto !== PROTO.tcp;
      stored = embryonic ? maps.embryos.tryUpdate(key, value) === 'stored' : this.establish(key, value);
      if (stored && !embryonic) maps.embryos.delete(key); // the pending mark
    } finally {
      if (!stored) slots.release(slot);
    }
    if (!stored) return false;
    slots.setDecider(slot, decision.by);
    slots.setPinGen(slot, decision.pinGen);
    slots.setRecorded(slot, decision.recorded || decision.action !== 'steer');
    return true;
  }

  /** Replaces the decision of a flow that is there, keeping its slot, age and counters; false when it has gone meanwhile. */
  replace(key: FlowKey, decision: FlowDecision): boolean {
    const bytes = encodeFlowKey(key);
    const { flows, embryos } = this.options.maps;
    // An embryo may be promoted between the look and the write: then it is in the other map.
    for (const map of [flows, embryos, flows]) {
      const held = map.lookup(bytes);
      if (held === undefined) continue;
      const next = this.redecided(abi.flow.decode(held), decision);
      if (map.tryUpdate(bytes, abi.flow.encode(next), UpdateFlag.EXIST) !== 'stored') continue;
      if (map === flows) this.options.onReplaced();
      return true;
    }
    return false;
  }

  /**
   * What a node says of a steered flow: its record keeps path, chain and rule, and gets the next flow-programming generation, which is returned.
   * Null when the flow has gone, or is not steered.
   */
  program(key: FlowKey, action: 'allow' | 'drop' | 'steer'): number | null {
    const bytes = encodeFlowKey(key);
    const { flows, embryos } = this.options.maps;
    for (const map of [flows, embryos, flows]) {
      const held = map.lookup(bytes);
      if (held === undefined) continue;
      const flow = abi.flow.decode(held);
      const word = unpackFlowWord(flow.word);
      if (!isServiced(word)) return null;
      const fpGen = (word.fpGen + 1) & 0xffff;
      const { WORD_FLAG_INSIDE, WORD_FLAG_PROGRAMMED } = abi.FlowWordFlag;
      const flags = (word.flags & WORD_FLAG_INSIDE) | (action === 'steer' ? 0 : WORD_FLAG_PROGRAMMED);
      const next = packFlowWord({ ...word, action: ACTION[action].action, flags, fpGen });
      if (map.tryUpdate(bytes, abi.flow.encode({ ...flow, word: next }), UpdateFlag.EXIST) !== 'stored')
        continue;
      if (map === flows) this.options.onReplaced();
      return fpGen;
    }
    return null;
  }

  private establish(key: Uint8Array, value: Uint8Array): boolean {
    const { flows } = this.options.maps;
    if (flows.tryUpdate(key, value, UpdateFlag.NOEXIST) === 'stored') return true;
    if (flows.tryUpdate(key, value) !== 'stored') return false;
    this.options.onReplaced();
    return true;
  }

  private redecided(flow: abi.Flow, decision: FlowDecision): abi.Flow {
    const { action, flags } = actionOf(decision);
    const before = unpackFlowWord(flow.word);
    const turned = before.initiatorIsB !== decision.initiatorIsB;
    const inside = ((before.flags & abi.FlowWordFlag.WORD_FLAG_INSIDE) !== 0) !== turned;
    const word = packFlowWord({
      path: decision.path,
      initiatorIsB: decision.initiatorIsB,
      action,
      flags: inside ? flags | abi.FlowWordFlag.WORD_FLAG_INSIDE : flags,
      chainGen: this.options.chainGen(decision.chain),
      fpGen: unpackFlowWord(flow.word).fpGen,
    });
    return {
      ...flow,
      word,
      rule: decision.rule,
      chain: decision.chain,
      rulesGen: this.options.rulesGen(),
      // What was its forward side may be its reply by the new decision: then the forward side's port is to be seen yet.
      fwdPort: turned ? 0 : flow.fwdPort,
      pinGen: decision.pinGen & 0xffff,
    };
  }

  /** Whether a flow has a decision. */
  isDecided(key: FlowKey): boolean {
    const held = this.read(key);
    return held !== null && unpackFlowWord(held.flow.word).action !== abi.FlowAction.FLOW_PENDING;
  }

  /** The live record of a key, or null. */
  read(key: FlowKey): { flow: abi.Flow; established: boolean } | null {
    const bytes = encodeFlowKey(key);
    const established = this.options.maps.flows.lookup(bytes);
    if (established !== undefined) return { flow: abi.flow.decode(established), established: true };
    const embryonic = this.options.maps.embryos.lookup(bytes);
    return embryonic === undefined ? null : { flow: abi.flow.decode(embryonic), established: false };
  }

  /** Who removes established flows says so with `forgetRemoved`, before their slots are given to others. */
  remove(key: Uint8Array, established: boolean): boolean {
    return (established ? this.options.maps.flows : this.options.maps.embryos).delete(key);
  }

  forgetRemoved(): void {
    this.options.onReplaced();
  }

  isEstablished(key: Uint8Array): boolean {
    return this.options.maps.flows.lookup(key) !== undefined;
  }

  counters(slot: number): FlowCounts {
    const { packets, bytes, lastNs, seen } = abi.flowCounters.decode(this.counterRows.element(slot));
    return { packets: pairOf(packets), bytes: pairOf(bytes), lastNs, seen };
  }

  /** The part of a flow's counters that says whether it is idle. */
  activity(slot: number): { lastNs: number; seen: number } {
    return readActivity(this.counterRows.view, slot * this.counterRows.stride);
  }

  [Symbol.dispose](): void {
    this.counterRows.close();
  }

  private encode(
    question: FlowQuestion,
    decision: FlowDecision,
    { slot, rulesGen }: { readonly slot: number; readonly rulesGen: number },
  ): Uint8Array {
    const { action, flags } = actionOf(decision);
    const forward = (question.norm === 1) === decision.initiatorIsB;
    const inside = this.options.isInside(question.port) === forward;
    return abi.flow.encode({
      word: packFlowWord({
        path: decision.path,
        initiatorIsB: decision.initiatorIsB,
        action,
        flags: inside ? flags | abi.FlowWordFlag.WORD_FLAG_INSIDE : flags,
        chainGen: this.options.chainGen(decision.chain),
        fpGen: 0,
      }),
      createdNs: this.options.nowNs(),
      rule: decision.rule,
      slot,
      rulesGen,
      chain: decision.chain,
      fwdPort: forward ? question.port : 0,
      entropy: ENTROPY_BASE + (entropyOf(question.key) & ENTROPY_MASK),
      pinGen: decision.pinGen & 0xffff,
      altScope: 0,
      out: [NO_WAY_OUT, NO_WAY_OUT],
    });
  }
}

/** [forward, reverse] */
export interface FlowCounts {
  readonly packets: readonly [bigint, bigint];
  readonly bytes: readonly [bigint, bigint];
  readonly lastNs: bigint;
  readonly seen: number;
}

function pairOf([forward = 0n, reverse = 0n]: BigUint64Array): readonly [bigint, bigint] {
  return [forward, reverse];
}

export function encodeFlowKey(key: FlowKey): Uint8Array {
  return abi.flowKey.encode({
    a: key.a,
    b: key.b,
    aport: key.aport,
    bport: key.bport,
    vrf: key.vrf,
    proto: key.proto,
    scope: key.scope,
  });
}

export function decodeFlowKey(bytes: Uint8Array, at = 0): FlowKey {
  const key = abi.flowKey.decode(bytes, at);
  return {
    vrf: key.vrf,
    proto: key.proto,
    scope: key.scope,
    a: key.a,
    b: key.b,
    aport: key.aport,
    bport: key.bport,
  };
}

/** Spreads outer packets over queues and links; FNV-1a over the tuple, not secret. */
function entropyOf(key: FlowKey): number {
  let hash = 0x811c9dc5;
  const mix = (byte: number) => {
    hash = Math.imul(hash ^ byte, 0x01000193);
  };
  for (const byte of key.a) mix(byte);
  for (const byte of key.b) mix(byte);
  for (const port of [key.aport, key.bport]) {
    mix(port & 0xff);
    mix(port >>> 8);
  }
  mix(key.proto);
  return (hash >>> 16) ^ (hash & 0xffff);
}
