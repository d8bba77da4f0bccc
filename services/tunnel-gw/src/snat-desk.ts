// SPDX-License-Identifier: Apache-2.0
// Who gets which binding: a packet that leaves by a port with SNAT, and whose flow has none there, waits here for the moment that it takes to make
// one. A binding ends when its flow has no record any more and sends nothing; its port then rests before another flow gets it.
import { describeError, type FlowKey, SnatPorts } from '@detour/core';
import type { HeldPacket } from './punt-desk.js';
import { bindingText, ipv4Number, type SnatBinding, type SnatTable, snatUse } from './snat-table.js';

export interface SnatDeskOptions {
  readonly table: SnatTable;
  /** The SNAT address of a port of the version in force, 16 bytes; null: it has none; undefined: no version is in force yet. */
  readonly addressOf: (port: number) => Uint8Array | null | undefined;
  /** Whether a flow has a record, under the scope in its key. */
  readonly hasRecord: (key: FlowKey) => boolean;
  readonly monoMs: () => number;
  /** CLOCK_MONOTONIC, as the datapath writes it into bindings. */
  readonly nowNs: () => bigint;
  readonly random: () => number;
  readonly putBack: (packets: readonly HeldPacket[]) => void;
  readonly dropHeld: (packets: readonly HeldPacket[], why: 'snat_full' | 'decision_timeout') => void;
  /** No port is free towards some remote end; null: that is over. */
  readonly onFull: (text: string | null) => void;
  readonly onError: (text: string) => void;
}

interface Wanted {
  readonly key: FlowKey;
  readonly innerIsB: boolean;
  readonly outPort: number;
  readonly address: number;
}

/** As a record without a chain: what has neither record nor packet for so long is over. */
const IDLE_NS = 120_000_000_000n;
/** A segment's longest life, twice, would be four minutes (RFC 9293 3.4.1); late packets of a closed connection come within one. */
export const SNAT_REST_MS = 60_000;

export class SnatDesk {
  readonly counts = { made: 0, moved: 0, refused: 0, ended: 0 };
  private readonly ports: SnatPorts;
  private fullSince: string | null = null;
  private raised = false;

  constructor(private readonly options: SnatDeskOptions) {
    this.ports = new SnatPorts({
      limit: options.table.capacity,
      restMs: SNAT_REST_MS,
      nowMs: options.monoMs,
      random: options.random,
    });
  }

  get inUse(): number {
    return this.ports.inUse;
  }

  /** A packet that is about to leave by this port; its source is the flow's inner end. */
  take(key: FlowKey, innerIsB: boolean, outPort: number, packet: HeldPacket): void {
    const { options, counts } = this;
    const address = options.addressOf(outPort);
    if (address === undefined) {
      options.dropHeld([packet], 'decision_timeout');
      return;
    }
    try {
      // Without an address: another version is in force by now, and the packet finds its way by that.
      if (address === null || this.bind({ key, innerIsB, outPort, address: ipv4Number(address) })) {
        options.putBack([packet]);
        return;
      }
    } catch (error) {
      options.onError(`a binding could not be stored: ${describeError(error)}`);
    }
    counts.refused++;
    options.dropHeld([packet], 'snat_full');
  }

  /** Gives a flow this port, which is known to be its own; false when another flow here has it. @throws Fault of the map */
  bindTo(wanted: Wanted, port: number): boolean {
    const { table, nowNs } = this.options;
    const { key, innerIsB, outPort, address } = wanted;
    const fresh = { address, outPort, innerIsB, scope: key.scope, lastNs: nowNs() };
    const held = table.read(key);
    const same =
      held !== null && held.address === address && held.innerIsB === innerIsB && held.port === port;
    if (!same) {
      if (!this.ports.adopt(snatUse(key, fresh).use, port)) return false;
      if (held !== null) this.end(key, held);
      this.counts.made++;
    }
    table.write(key, { ...fresh, port });
    return true;
  }

  /** True when the flow has its binding. @throws Fault of the map */
  private bind({ key, innerIsB, outPort, address }: Wanted): boolean {
    const { table, nowNs } = this.options;
    const held = table.read(key);
    const fresh = { address, outPort, innerIsB, scope: key.scope, lastNs: nowNs() };
    if (held !== null && held.address === address && held.innerIsB === innerIsB) {
      table.write(key, { ...fresh, port: held.port });
      return true;
    }
    const { use, inner } = snatUse(key, fresh);
    const port = this.ports.take(use, inner.port);
    if (port === null) {
      this.fullSince = `no port of ${bindingText({ address, port: 0 })} is free for another flow of protocol ${use.proto} to ${bindingText({ address: use.remote, port: use.remotePort })}, or all ${table.capacity} bindings are in use`;
      if (!this.raised) this.options.onFull(this.fullSince);
      this.raised = true;
      return false;
    }
    if (held !== null) {
      this.end(key, held);
      this.counts.moved++;
    }
    try {
      table.write(key, { ...fresh, port });
    } catch (error) {
      this.ports.release(use, port);
      throw error;
    }
    this.counts.made++;
    return true;
  }

  /** What a predecessor left: its ports are in use, and what comes back finds its flow. */
  async adopt(): Promise<void> {
    const { table } = this.options;
    for await (const { key, binding } of table.all()) {
      if (this.ports.adopt(snatUse(key, binding).use, binding.port)) table.write(key, binding);
      else table.remove(key, binding);
    }
  }

  /** Ends bindings whose flow is over, or whose port has another address by now. */
  async sweep(signal: AbortSignal): Promise<void> {
    const { table, hasRecord, addressOf, nowNs, onFull } = this.options;
    const over: { key: FlowKey; binding: SnatBinding }[] = [];
    for await (const { key, binding } of table.all(signal)) {
      const address = addressOf(binding.outPort);
      const stale = address === null || (address !== undefined && ipv4Number(address) !== binding.address);
      const idle = nowNs() - binding.lastNs >= IDLE_NS;
      if (stale || (idle && !hasRecord({ ...key, scope: binding.scope }))) over.push({ key, binding });
    }
    for (const { key, binding } of over) this.end(key, binding);
    this.ports.expire();
    if (this.raised && this.fullSince === null) {
      onFull(null);
      this.raised = false;
    }
    this.fullSince = null;
  }

  private end(key: FlowKey, binding: SnatBinding): void {
    this.options.table.remove(key, binding);
    this.ports.release(snatUse(key, binding).use, binding.port);
    this.counts.ended++;
  }
}
