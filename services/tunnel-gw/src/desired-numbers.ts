// SPDX-License-Identifier: Apache-2.0
// Numbers and VRFs of a revision by name, for all who make a model of it.
import { Fault } from '@detour/core';
import type { VrfModel } from './model.js';

/** @throws Fault `refused` where the revision does not have it; `what` names it. */
export type VrfOf = (name: string | undefined, what: string) => VrfModel;

/** @throws Fault `invalid` for a key without a number. */
export function numberOf(numbers: Readonly<Record<string, number>>, key: string, kind: string): number {
  const number = numbers[key];
  if (number === undefined)
    throw new Fault('invalid', `the revision has no number for ${kind} ${key}: apply the intent again`);
  return number;
}
