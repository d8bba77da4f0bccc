// SPDX-License-Identifier: Apache-2.0
// A counter by one label for what happens with every flow: counted as a number, and told to the instruments when they are read.
import type { Meter } from '@opentelemetry/api';

export interface TallySpec {
  readonly description: string;
  readonly label: string;
}

/** Returns what counts one more of a value of the label; the values must be few. */
export function tally(meter: Meter, name: string, spec: TallySpec): (value: string) => void {
  const counts = new Map<string, number>();
  meter.createObservableCounter(name, { description: spec.description }).addCallback((result) => {
    for (const [value, count] of counts) result.observe(count, { [spec.label]: value });
  });
  return (value) => void counts.set(value, (counts.get(value) ?? 0) + 1);
}
