// SPDX-License-Identifier: Apache-2.0
// temporary

import type { Repin } from './event-desk.js';
import type { FlowSlots } from './flow-slots.js';
import type { Gateway } from './gateway.js';
import type { PinUse } from './sweeper.js';
export class PinKeeper implements Disposable {
  constructor(readonly options: unknown) {}
  get connected(): boolean {
    return false;
  }
  figures(): Record<string, bigint> {
    return {};
  }
  repin(_r: Repin, _g: Gateway): void {}
  refresh(_p: readonly PinUse[], _s: FlowSlots): void {}
  record(_p: readonly PinUse[], _g: Gateway): void {}
  [Symbol.dispose](): void {}
}
