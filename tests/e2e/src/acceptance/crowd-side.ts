// SPDX-License-Identifier: Apache-2.0
/** One side of a crowd: what it sends, what it answers, and what it counts. Frames in and out go through the two functions it is given. */
import type { AskFlows, AskResult, CrowdReport, FlowRange } from './crowd-protocol.js';
import {
  type BuildFields,
  type CrowdPlace,
  CrowdWire,
  type FlowPacket,
  type FlowProto,
  type PacketKind,
} from './crowd-wire.js';

export interface CrowdSideOptions extends CrowdPlace {
  /** Flow numbers are below this. */
  readonly capacity: number;
  /** Returns how many of the frames went; the rest is tried again. */
  readonly sendMany: (frames: readonly Uint8Array[]) => number;
  readonly nowMs: () => number;
}

const BATCH = 64;
const FRAME_BYTES = 128;
const DEFAULT_WINDOW = 96; // each may have two packets on one link, whose ring takes 256
const DEFAULT_GIVE_UP_MS = 5_000;
const MAX_NAMED = 20;

interface Asking {
  readonly kind: 'open' | 'ask';
  readonly range: Required<AskFlows>;
  readonly startedMs: number;
  readonly waiting: Map<number, number>; // flow → when it is given up, oldest first
  readonly lost: number[];
  next: number;
  answered: number;
  readonly done: (result: AskResult) => void;
}

interface Streaming {
  readonly range: FlowRange;
  readonly pps: number;
  readonly startedMs: number;
  sent: number;
  lastAnswerMs: number;
}

export class CrowdSide {
  readonly #wire: CrowdWire;
  readonly #sent: Record<PacketKind, number> = { syn: 0, 'syn-ack': 0, ack: 0, ask: 0, answer: 0 };
  readonly #received: Record<PacketKind, number> = { syn: 0, 'syn-ack': 0, ack: 0, ask: 0, answer: 0 };
  readonly #counts = { corrupt: 0, foreign: 0, duplicated: 0, reordered: 0, maxGapMs: 0 };
  readonly #ttl = new Map<number, number>();
  /** Per flow: messages sent, the highest number heard. */
  readonly #numbers: Uint32Array;
  readonly #heard: Uint32Array;
  readonly #pool = Array.from({ length: BATCH }, () => new Uint8Array(FRAME_BYTES));
  #batch: Uint8Array[] = [];
  #asking: Asking | null = null;
  #streaming: Streaming | null = null;

  constructor(private readonly options: CrowdSideOptions) {
    this.#wire = new CrowdWire(options);
    this.#numbers = new Uint32Array(options.capacity);
    this.#heard = new Uint32Array(options.capacity);
  }

  /** A frame from the device. */
  take(frame: Uint8Array): void {
    const packet = this.#wire.read(frame);
    if (packet === null) return;
    if (packet === 'corrupt' || packet === 'foreign') this.#counts[packet]++;
    else if (packet.flow >= this.options.capacity) this.#counts.foreign++;
    else this.#takePacket(packet);
  }

  /** Sends what is due; called after frames were taken and every few milliseconds. */
  pump(): void {
    const now = this.options.nowMs();
    const { next, range, waiting } = this.#asking ?? { next: 0, range: null, waiting: null };
    if (range !== null && waiting !== null && this.#asking !== null) {
      for (const [flow, until] of waiting) {
        if (until > now) break;
        waiting.delete(flow);
        this.#asking.lost.push(flow);
      }
      const end = Math.min(range.first + range.count, next + range.window - waiting.size);
      for (let flow = next; flow < end; flow++) {
        waiting.set(flow, now + range.giveUpMs);
        const opens = this.#asking.kind === 'open' && range.proto === 'tcp';
        this.#send(flow, range.proto, opens ? 'syn' : 'ask');
      }
      this.#asking.next = Math.max(next, end);
    }
    this.#stream(now);
    this.#flush();
    this.#finishAsking(now);
  }

  ask(kind: 'open' | 'ask', asked: AskFlows): Promise<AskResult> {
    if (this.#asking !== null) throw new Error('one range at a time: wait for the last one');
    const range = { window: DEFAULT_WINDOW, giveUpMs: DEFAULT_GIVE_UP_MS, ...asked };
    if (!(range.count > 0) || range.first + range.count > this.options.capacity)
      throw new Error(`flows ${range.first} and ${range.count} more: capacity is ${this.options.capacity}`);
    return new Promise((done) => {
      const startedMs = this.options.nowMs();
      this.#asking = {
        kind,
        range,
        startedMs,
        waiting: new Map(),
        lost: [],
        next: range.first,
        answered: 0,
        done,
      };
    });
  }

  stream(range: FlowRange, pps: number): void {
    const now = this.options.nowMs();
    this.#streaming = { range, pps, startedMs: now, sent: 0, lastAnswerMs: now };
  }

  stopStream(): void {
    this.#streaming = null;
  }

  report(): CrowdReport {
    return {
      sent: { ...this.#sent },
      received: { ...this.#received },
      ...this.#counts,
      ttl: Object.fromEntries(this.#ttl),
      unanswered: this.#sent.ask - this.#received.answer,
    };
  }

  #takePacket(packet: FlowPacket): void {
    const { flow, proto, kind, number } = packet;
    this.#received[kind]++;
    this.#ttl.set(packet.ttl, (this.#ttl.get(packet.ttl) ?? 0) + 1);
    if (number > 0) this.#hear(flow, number);
    switch (kind) {
      case 'syn':
        this.#send(flow, proto, 'syn-ack');
        break;
      case 'syn-ack':
        this.#send(flow, proto, 'ack');
        this.#answered(flow);
        break;
      case 'ask':
        this.#send(flow, proto, 'answer');
        break;
      case 'answer':
        this.#noteGap();
        this.#answered(flow);
        break;
      case 'ack':
        break;
    }
  }

  #hear(flow: number, number: number): void {
    const last = this.#heard[flow] ?? 0;
    if (number === last) this.#counts.duplicated++;
    else if (number < last) this.#counts.reordered++;
    else this.#heard[flow] = number;
  }

  #answered(flow: number): void {
    if (this.#asking?.waiting.delete(flow)) this.#asking.answered++;
  }

  #noteGap(): void {
    if (this.#streaming === null) return;
    const now = this.options.nowMs();
    this.#counts.maxGapMs = Math.max(this.#counts.maxGapMs, now - this.#streaming.lastAnswerMs);
    this.#streaming.lastAnswerMs = now;
  }

  #stream(now: number): void {
    const streaming = this.#streaming;
    if (streaming === null) return;
    const { range } = streaming;
    const due = Math.floor(((now - streaming.startedMs) / 1_000) * streaming.pps);
    if (due - streaming.sent > streaming.pps / 4) streaming.sent = due - Math.floor(streaming.pps / 4); // no burst after a stall
    for (; streaming.sent < due; streaming.sent++)
      this.#send(range.first + (streaming.sent % range.count), range.proto, 'ask');
  }

  #send(flow: number, proto: FlowProto, kind: PacketKind): void {
    const carries = kind === 'ask' || kind === 'answer';
    const number = carries ? (this.#numbers[flow] ?? 0) + 1 : 0;
    if (carries) this.#numbers[flow] = number;
    const nowMs = this.options.nowMs();
    const fields: BuildFields = { flow, proto, kind, number, heard: this.#heard[flow] ?? 0, nowMs };
    const frame = this.#pool[this.#batch.length] ?? new Uint8Array(FRAME_BYTES);
    this.#batch.push(frame.subarray(0, this.#wire.build(fields, frame)));
    this.#sent[kind]++;
    if (this.#batch.length === BATCH) this.#flush();
  }

  #flush(): void {
    let rest: readonly Uint8Array[] = this.#batch;
    while (rest.length > 0) rest = rest.slice(this.options.sendMany(rest));
    this.#batch = [];
  }

  #finishAsking(now: number): void {
    const asking = this.#asking;
    if (asking === null || asking.waiting.size > 0) return;
    const { range } = asking;
    if (asking.next < range.first + range.count) return;
    this.#asking = null;
    asking.done({
      sent: range.count,
      answered: asking.answered,
      unanswered: asking.lost.slice(0, MAX_NAMED),
      tookMs: now - asking.startedMs,
    });
  }
}
