// SPDX-License-Identifier: Apache-2.0
// Axes: from values to places, and at which values there are marks.

export interface Axis {
  readonly scale: 'linear' | 'log';
  readonly min: number;
  readonly max: number;
  readonly ticks: readonly Tick[];
  /** What is along it, with its unit. */
  readonly label: string;
}

export interface Tick {
  readonly at: number;
  readonly text: string;
}

/** Where a value is between the ends of an axis: 0..1. What is beyond an end is at the end. */
export function placeOn({ scale, min, max }: Axis, value: number): number {
  const f = scale === 'log' ? Math.log10 : (x: number) => x;
  const part = (f(Math.max(value, scale === 'log' ? min : value)) - f(min)) / (f(max) - f(min));
  return Math.min(1, Math.max(0, part));
}

/** From 0 or `from` to a round number that is no less than the largest value, in about five steps of 1, 2 or 5 times a power of ten. */
export function linearAxis(
  values: readonly number[],
  { label, from = 0 }: { label: string; from?: number },
): Axis {
  const most = Math.max(from, ...values.filter(Number.isFinite));
  const step = roundStep((most - from || 1) / 4);
  const count = Math.max(1, Math.ceil((most - from) / step - 1e-9));
  const ticks = Array.from({ length: count + 1 }, (_, i) => tickAt(from + i * step));
  return { scale: 'linear', min: from, max: from + count * step, ticks, label };
}

/** Whole decades around all values above 0. */
export function logAxis(values: readonly number[], { label }: { label: string }): Axis {
  const real = values.filter((value) => Number.isFinite(value) && value > 0);
  const low = Math.floor(Math.log10(Math.min(...real)) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...real)) - 1e-9));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => tickAt(10 ** (low + i)));
  return { scale: 'log', min: 10 ** low, max: 10 ** high, ticks, label };
}

/** From the least value to the largest, with round numbers marked: for numbers of things. */
export function countAxis(values: readonly number[], { label }: { label: string }): Axis {
  const [min, max] = [Math.min(...values), Math.max(...values)];
  const marks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
  const ticks = marks.flatMap((at) => (at >= min && at <= max ? [tickAt(at)] : []));
  return { scale: 'log', min, max, ticks, label };
}

/** The hours of a day, or of the part of it that was simulated. */
export function timeAxis(endMs: number): Axis {
  const hours = endMs / 3_600_000;
  const every = hours > 12 ? 3 : 1;
  const ticks = Array.from({ length: Math.floor(hours / every) + 1 }, (_, i) => ({
    at: i * every * 3_600_000,
    text: `${String(i * every).padStart(2, '0')}:00`,
  }));
  return { scale: 'linear', min: 0, max: endMs, ticks, label: 'time of day' };
}

function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return (([1, 2, 5, 10] as const).find((one) => one * power >= least * (1 - 1e-9)) ?? 10) * power;
}

/** 12000 is 12k, 0.30000000000000004 is 0.3. */
function tickAt(at: number): Tick {
  const [size, unit] = at >= 1e6 ? [1e6, 'M'] : at >= 1e3 ? [1e3, 'k'] : [1, ''];
  return { at, text: `${Number((at / size).toPrecision(6))}${unit}` };
}
