// SPDX-License-Identifier: Apache-2.0
// Tells a stats-collector what this gateway measured about its nodes: one report a node, a few at a time, one round after the other.
import { StatsCollectorClient } from '@detour/contracts';
import { describeError, Fault, type Log } from '@detour/core';
import { type ConnectedClient, callUnary, connectClient, rankInstances } from '@detour/rpc';
import type { NodeAttributes } from './node-meter.js';

export interface ReporterSpec {
  readonly gateway: string;
  readonly instances: () => readonly string[];
  readonly log: Log;
}

/** Most reports on their way at once. */
const AT_ONCE = 8;
const DEADLINE_MS = 2_000;
/** Words of a collector that is not there, or not now: another one may take the report. */
const ELSEWHERE: ReadonlySet<Fault['code']> = new Set(['unavailable', 'timeout']);

type Reports = ReadonlyMap<string, NodeAttributes>;

export class AttributeReporter implements Disposable {
  /** Reports by what became of them. */
  readonly counts = { taken: 0, refused: 0, failed: 0 };
  #connected: { readonly address: string; readonly to: ConnectedClient<StatsCollectorClient> } | null = null;
  readonly #life = new AbortController();
  #trouble = '';

  constructor(private readonly spec: ReporterSpec) {}

  /** One round; never rejects. What no collector takes is lost: the next round says more of the same. */
  async report(reports: Reports): Promise<void> {
    let left = reports;
    const tried: string[] = [];
    for (const address of rankInstances(this.spec.gateway, this.spec.instances())) {
      if (left.size === 0 || this.#life.signal.aborted) return;
      left = await this.#reportTo(address, left);
      tried.push(address);
    }
    if (this.#life.signal.aborted) return;
    this.counts.failed += left.size;
    const nobody =
      tried.length === 0 ? 'no stats-collector is registered' : `${tried.join(', ')} did not take them`;
    this.#tell(left.size === 0 ? '' : `reports about ${left.size} nodes are lost: ${nobody}`);
  }

  [Symbol.dispose](): void {
    this.#life.abort();
    this.#connected?.to[Symbol.dispose]();
  }

  /** @returns what was not taken there, and may be elsewhere */
  async #reportTo(address: string, reports: Reports): Promise<Reports> {
    const { client } = this.#clientOf(address);
    const left = new Map<string, NodeAttributes>();
    const waiting = reports.entries();
    const work = async (): Promise<void> => {
      for (const [node, attributes] of waiting)
        if (left.size > 0 || !(await this.#reportOne(client, node, attributes))) left.set(node, attributes);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return left;
  }

  /** false: it did not get there. */
  async #reportOne(client: StatsCollectorClient, node: string, attributes: NodeAttributes): Promise<boolean> {
    const { gateway, log } = this.spec;
    // No time of ours: our clock may be wrong, and what was measured is of now.
    const request = { node, gateway, reporter: gateway, atMs: 0n, attributes: { ...attributes } };
    try {
      const call = { deadlineMs: DEADLINE_MS, signal: this.#life.signal };
      const { refused } = await callUnary(client.reportAttributes.bind(client), request, call);
      if (refused.length > 0) log.warn({ node }, `the stats-collector refuses: ${refused.join('; ')}`);
      this.counts[refused.length === 0 ? 'taken' : 'refused']++;
    } catch (error) {
      if (error instanceof Fault && ELSEWHERE.has(error.code)) return false;
      // It does not know the node yet, or this gateway: it has another revision.
      log.debug({ node }, `a report is not taken: ${describeError(error)}`);
      this.counts.refused++;
    }
    return true;
  }

  #clientOf(address: string): ConnectedClient<StatsCollectorClient> {
    if (this.#connected?.address === address) return this.#connected.to;
    this.#connected?.to[Symbol.dispose]();
    const to = connectClient(StatsCollectorClient, address);
    this.#connected = { address, to };
    return to;
  }

  #tell(trouble: string): void {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    if (trouble === '') this.spec.log.info({}, 'reports about nodes are taken again');
    else this.spec.log.warn({}, trouble);
  }
}
