// SPDX-License-Identifier: Apache-2.0
/**
 * Measured attributes smoothed before they are scored: an exponentially weighted mean with a time constant, of samples that come when they
 * come. Time is the monotonic clock of this process; no wall clock takes part, so no step of one does (ADR 0025).
 *
 * What outlives a process is in the published score: values that are taken over from there stay as they are until the second sample, the
 * first one only says when time begins. What was smoothed since they were published is lost; it was less than the hysteresis hides.
 */
import { isMeasured, type Measured } from './attributes.js';

/** A lasting value is reached, and not only come near to, once so little is missing. */
const REACHED = 1e-3;

interface Smoothed {
  readonly value: number;
  /** Monotonic ms of the latest sample; null: none was seen by this process. */
  readonly atMs: number | null;
}

/** Where the mean is after a sample that stands for `elapsedMs`. */
export function smooth(
  before: number,
  {
    sample,
    elapsedMs,
    timeMs,
  }: { readonly sample: number; readonly elapsedMs: number; readonly timeMs: number },
): number {
  if (timeMs <= 0) return sample;
  const kept = Math.exp(-Math.max(0, elapsedMs) / timeMs);
  const mean = before * kept + sample * (1 - kept);
  const after = Math.min(Math.max(before, sample), Math.max(Math.min(before, sample), mean)); // however it was rounded
  return Math.abs(sample - after) <= REACHED * Math.max(Math.abs(sample), Math.abs(after)) ? sample : after;
}

export class Smoother {
  readonly #values = new Map<Measured, Smoothed>();

  /** `timeMs` 0: nothing is smoothed, and nothing is remembered. */
  constructor(private readonly timeMs: number) {}

  /** A new sample of an attribute. */
  take(name: Measured, sample: number, nowMs: number): void {
    if (this.timeMs <= 0) return;
    const before = this.#values.get(name);
    if (before === undefined) this.#values.set(name, { value: sample, atMs: nowMs });
    else {
      const elapsedMs = before.atMs === null ? 0 : nowMs - before.atMs;
      const value = smooth(before.value, { sample, elapsedMs, timeMs: this.timeMs });
      this.#values.set(name, { value, atMs: nowMs });
    }
  }

  /** What counts instead of the sample; undefined: the sample does. */
  of(name: Measured): number | undefined {
    return this.#values.get(name)?.value;
  }

  /** It is not measured any more: when it is again, it begins anew. */
  forget(name: Measured): void {
    this.#values.delete(name);
  }

  /** Goes on from what another life or another replica published. */
  adopt(published: Readonly<Record<string, number>> | undefined): void {
    if (this.timeMs <= 0) return;
    for (const [name, value] of Object.entries(published ?? {}))
      if (isMeasured(name)) this.#values.set(name, { value, atMs: this.#values.get(name)?.atMs ?? null });
  }

  names(): Measured[] {
    return [...this.#values.keys()];
  }
}
