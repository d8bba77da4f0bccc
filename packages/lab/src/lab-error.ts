// SPDX-License-Identifier: Apache-2.0
/** The one error of the lab: it names the thing, the value and, where there is one, the remedy. */
export class LabError extends Error {
  override readonly name = 'LabError';
}
