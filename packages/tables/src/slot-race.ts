// SPDX-License-Identifier: Apache-2.0
// Who wins each slot of a chain before quotas are met: the contender with the least cost (rendezvous.ts), the earlier one of two with the
// same. A race remembers its winners and what the slots cost them, so that a few changed weights cost a look at these few contenders, and at
// all of them only in slots that their winner may have lost. What comes out is the same as from the start; nothing else depends on history.
import { type Contender, cost, draw, mix32, slotSeed, toContender } from './rendezvous.js';

/** A path that takes part, and its weight, above 0. */
export interface Runner {
  readonly path: number;
  readonly weight: number;
}

export interface RaceResult {
  /** Slot → index into the runners. The caller's own. */
  readonly owners: Uint16Array;
  readonly contenders: readonly Contender[];
}

/** Beyond one changed weight in so many contenders, looking at each of them in each slot costs as much as the whole. */
const MOST_CHANGED = 1 / 8;
const TWO_32 = 2 ** 32;
const SIGN = 0x80000000 | 0;

export class SlotRace {
  private paths: readonly number[] = [];
  private contenders: readonly Contender[] = [];
  private seeds = new Int32Array(0);
  private inverse = new Float64Array(0);
  /** The greatest of all weights: a bound of what a hash can cost. */
  private heaviest = 0;
  private owners = new Uint16Array(0);
  private least = new Float64Array(0);

  constructor(private readonly chain: number) {}

  /** `runners`: in the order of their path numbers; at least one. */
  run(runners: readonly Runner[], slots: number): RaceResult {
    const changed = this.owners.length === slots ? this.changedWeights(runners) : null;
    this.paths = runners.map(({ path }) => path);
    this.contenders = runners.map(({ path, weight }) => toContender(this.chain, path, weight));
    this.seeds = Int32Array.from(this.contenders, ({ seed }) => seed);
    this.inverse = Float64Array.from(this.contenders, ({ inverseWeight }) => inverseWeight);
    this.heaviest = runners.reduce((most, { weight }) => Math.max(most, weight), 0);
    if (changed === null) {
      this.owners = new Uint16Array(slots);
      this.least = new Float64Array(slots);
      for (let slot = 0; slot < slots; slot++) this.runSlot(slot);
    } else if (changed.length > 0) this.runChanged(changed);
    return { owners: this.owners.slice(), contenders: this.contenders };
  }

  /** Indexes of contenders with another weight; null when others take part, or too many have changed. */
  private changedWeights(runners: readonly Runner[]): number[] | null {
    if (runners.length !== this.paths.length) return null;
    const changed: number[] = [];
    for (const [i, { path, weight }] of runners.entries()) {
      if (path !== this.paths[i]) return null;
      if (1 / weight !== this.inverse[i]) changed.push(i);
    }
    return changed.length <= Math.max(1, runners.length * MOST_CHANGED) ? changed : null;
  }

  private runSlot(slot: number): void {
    const { seeds, inverse } = this;
    const count = seeds.length;
    const seed = slotSeed(slot);
    let winner = 0;
    let least = Number.POSITIVE_INFINITY;
    // u is a lower bound of -ln(1 - u): with the greatest weight, a hash above this one is too dear, whosever it is. Signed, for speed.
    let dearest = ~SIGN;
    for (let i = 0; i < count; i++) {
      const hash = mix32((seeds[i] ?? 0) + seed);
      if ((hash ^ SIGN) > dearest) continue;
      const u = ((hash >>> 0) + 0.5) / TWO_32;
      const inverseWeight = inverse[i] ?? 0;
      if (u * inverseWeight >= least) continue;
      const price = cost(u, inverseWeight);
      if (price >= least) continue;
      least = price;
      winner = i;
      dearest = (Math.min(TWO_32 - 1, Math.ceil(least * this.heaviest * TWO_32)) | 0) ^ SIGN;
    }
    this.owners[slot] = winner;
    this.least[slot] = least;
  }

  private runChanged(changed: readonly number[]): void {
    const { seeds, inverse, owners, least } = this;
    const isChanged = new Uint8Array(seeds.length);
    for (const i of changed) isChanged[i] = 1;
    for (let slot = 0; slot < owners.length; slot++) {
      const seed = slotSeed(slot);
      let winner = owners[slot] ?? 0;
      let price = least[slot] ?? 0;
      if (isChanged[winner] === 1) {
        const now = cost(draw(seeds[winner] ?? 0, seed), inverse[winner] ?? 0);
        if (now > price) {
          this.runSlot(slot);
          continue;
        }
        price = now;
      }
      for (const i of changed) {
        const u = draw(seeds[i] ?? 0, seed);
        const inverseWeight = inverse[i] ?? 0;
        if (i === winner || u * inverseWeight > price) continue;
        const offer = cost(u, inverseWeight);
        if (offer < price || (offer === price && i < winner)) [winner, price] = [i, offer];
      }
      owners[slot] = winner;
      least[slot] = price;
    }
  }
}
