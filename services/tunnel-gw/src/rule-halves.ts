// SPDX-License-Identifier: Apache-2.0
// The rule table in the datapath's memory: a version is staged in the half that no live bank names, and only the lines that this half lacks are
// written. Few changes are staged at once; many in portions, between which everything else has its turn. What is live is never written.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { RuleRow } from '@detour/contracts';
import { Fault, inOrder, rowOf } from '@detour/core';
import {
  copyLines,
  diffRules,
  ImageRules,
  LINE_WORDS,
  RuleImage,
  type RuleLookup,
  type TableDelta,
} from '@detour/tables';

/** Both halves, and which of them packets are looked up in now (0: neither). */
export interface RuleMemory {
  readonly words: Uint32Array;
  /** Of a half. */
  readonly lines: number;
  liveHalf(): number;
}

type Half = 1 | 2;
interface Held {
  /** As they came, for being told from others. */
  readonly rows: readonly RuleRow[];
  readonly ordered: readonly RuleRow[]; // by number
  readonly lookup: RuleLookup;
}

/** Changes that are staged at once; each takes a fraction of a millisecond. */
const AT_ONCE = 100;
/** Rules, and lines, that one turn handles. */
const PORTION = 200;
const LINES_PORTION = 16_384;

export class RuleHalves {
  private image = new RuleImage({ copies: 2 });
  /** What the image was brought up to: as it came, and in order. */
  private imaged: Pick<Held, 'rows' | 'ordered'> = { rows: [], ordered: [] };
  private readonly held: Record<Half, Held | null> = { 1: null, 2: null };
  private staging: Promise<void> | null = null;

  /** `settle` returns when no packet reads a half that is not live. */
  constructor(
    private readonly memory: RuleMemory,
    private readonly settle: () => void,
  ) {}

  /** The half that holds these very rows; 0 when none does. */
  halfOf(rows: readonly RuleRow[]): 0 | Half {
    const order: readonly Half[] = this.memory.liveHalf() === 2 ? [2, 1] : [1, 2]; // rather stay than change
    return order.find((half) => this.held[half]?.rows === rows) ?? 0;
  }

  /** Look-ups in the half that holds them. */
  rules(rows: readonly RuleRow[]): RuleLookup | null {
    const half = this.halfOf(rows);
    return half === 0 ? null : (this.held[half]?.lookup ?? null);
  }

  /**
   * Stages them if they are not, where that takes no time and there is room; else false, and `stage` does it, or says why not.
   */
  stageAtOnce(rows: readonly RuleRow[]): boolean {
    if (this.halfOf(rows) !== 0) return true;
    if (this.staging !== null) return false;
    const ordered = inOrder(rows);
    const delta = diffRules(this.imaged.ordered, ordered);
    if (delta.upserts.length + delta.removes.length > AT_ONCE) return false;
    this.guarded(() => this.image.apply(delta));
    this.imaged = { rows, ordered };
    if (!this.fits) {
      this.startAgain(); // tables that were larger once do not shrink: a new image may fit
      return false;
    }
    const half = this.begin();
    while (this.copy(half));
    this.hold(half);
    return true;
  }

  /** Resolves when they are staged; what was asked for before comes first. @throws Fault `refused` when there is not room enough; what is live stays. */
  async stage(rows: readonly RuleRow[]): Promise<void> {
    while (this.staging !== null) await this.staging.catch(() => {}); // whoever asked for it has the error
    if (this.stageAtOnce(rows)) return;
    this.staging = this.stageInPortions(rows).finally(() => {
      this.staging = null;
    });
    await this.staging;
  }

  private async stageInPortions(rows: readonly RuleRow[]): Promise<void> {
    const ordered = inOrder(rows);
    const afresh = this.imaged.ordered.length === 0;
    await this.build(rows, ordered);
    if (!this.fits && !afresh) {
      this.startAgain();
      await this.build(rows, ordered);
    }
    await this.write();
  }

  private async build(rows: readonly RuleRow[], ordered: readonly RuleRow[]): Promise<void> {
    const delta = diffRules(this.imaged.ordered, ordered);
    this.guarded(() => this.image.reserve(delta.upserts));
    for (const portion of portions(delta)) {
      this.guarded(() => this.image.apply(portion));
      await nextTurn();
    }
    this.imaged = { rows, ordered };
  }

  /** Brings the half that is not live up to what was staged last, so that the next change has only its own lines to write. For after a flip. */
  async mirror(): Promise<void> {
    const idle: Half = this.memory.liveHalf() === 1 ? 2 : 1;
    if (this.staging !== null || this.held[idle]?.rows === this.imaged.rows) return;
    this.staging = this.write().finally(() => {
      this.staging = null;
    });
    await this.staging;
  }

  private async write(): Promise<void> {
    const half = this.begin();
    while (this.copy(half)) await nextTurn();
    this.hold(half);
  }

  /** What fails half-way leaves an image of nothing; the next one is made from the start. */
  private guarded(change: () => void): void {
    try {
      change();
    } catch (error) {
      this.startAgain();
      throw error;
    }
  }

  private startAgain(): void {
    this.image = new RuleImage({ copies: 2 });
    this.imaged = { rows: [], ordered: [] };
  }

  private get fits(): boolean {
    return this.image.lines <= this.memory.lines;
  }

  /** The half to write, when the image fits. */
  private begin(): Half {
    const { memory, image } = this;
    if (!this.fits) {
      this.startAgain();
      throw new Fault(
        'refused',
        `the rule table needs ${image.lines} lines of 64 bytes, ${image.lines - memory.lines} more than there are: ` +
          `set DETOUR_RULE_LINES to ${image.lines} or more, or have fewer rules, or fewer ports and groups in them`,
      );
    }
    const half = memory.liveHalf() === 1 ? 2 : 1;
    this.settle();
    this.held[half] = null;
    return half;
  }

  /** One portion of lines; false when none is left. */
  private copy(half: Half): boolean {
    const changes = this.image.changes(half - 1, LINES_PORTION);
    copyLines(changes, this.memory.words, (half - 1) * this.memory.lines * LINE_WORDS);
    return changes.lines.length > 0;
  }

  private hold(half: Half): void {
    const { rows, ordered } = this.imaged;
    const { words, lines } = this.memory;
    const from = (half - 1) * lines * LINE_WORDS;
    const source = {
      words: words.subarray(from, from + lines * LINE_WORDS),
      row: (number: number) => rowOf(ordered, number),
    };
    this.held[half] = { rows, ordered, lookup: new ImageRules(source) };
  }
}

function* portions({ upserts, removes }: TableDelta<RuleRow>): Generator<TableDelta<RuleRow>> {
  for (let i = 0; i < removes.length; i += PORTION)
    yield { upserts: [], removes: removes.slice(i, i + PORTION) };
  for (let i = 0; i < upserts.length; i += PORTION)
    yield { upserts: upserts.slice(i, i + PORTION), removes: [] };
}
