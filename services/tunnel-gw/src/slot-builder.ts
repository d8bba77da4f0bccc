// SPDX-License-Identifier: Apache-2.0
// The main thread's hold on the thread that builds slots: started at the first order, started again after it died.
import { Worker } from 'node:worker_threads';
import { Fault } from '@detour/core';
import type { Member } from '@detour/tables';

export interface SlotOrder {
  readonly ask: number;
  readonly members: readonly Member[];
  readonly chain: number;
}

export type SlotReport =
  | { readonly ask: number; readonly ok: true; readonly slots: Uint16Array }
  | { readonly ask: number; readonly ok: false; readonly why: string };

interface Asked {
  readonly resolve: (slots: Uint16Array) => void;
  readonly reject: (fault: Fault) => void;
}

/** `workerUrl` is the built slot-worker.js. */
export class SlotBuilder implements AsyncDisposable {
  private worker: Worker | null = null;
  private readonly asked = new Map<number, Asked>();
  private asks = 0;

  constructor(private readonly workerUrl: URL) {}

  /** As buildSelection of packages/tables. @throws Fault `invalid` as that, `internal` when the thread died. */
  build(members: readonly Member[], chain: number): Promise<Uint16Array> {
    this.worker ??= this.start();
    const order: SlotOrder = { ask: ++this.asks, members, chain };
    const { worker } = this;
    return new Promise((resolve, reject) => {
      this.asked.set(order.ask, { resolve, reject });
      worker.postMessage(order);
    });
  }

  private start(): Worker {
    // No flags of the parent: a module condition given there would change which files the thread loads.
    const worker = new Worker(this.workerUrl, { execArgv: [] });
    worker.unref(); // nobody has to wait for it at the end
    worker.on('message', (report: SlotReport) => {
      const asked = this.asked.get(report.ask);
      this.asked.delete(report.ask);
      if (report.ok) asked?.resolve(report.slots);
      else asked?.reject(new Fault('invalid', report.why));
    });
    const gone = (why: unknown) => {
      if (this.worker !== worker) return;
      this.worker = null;
      const waiting = [...this.asked.values()];
      this.asked.clear();
      for (const { reject } of waiting)
        reject(new Fault('internal', 'the thread that builds selection tables ended', why));
    };
    worker.on('error', gone);
    worker.on('exit', gone);
    return worker;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { worker } = this;
    this.worker = null; // what was asked for is for nobody any more
    await worker?.terminate();
  }
}
