// SPDX-License-Identifier: Apache-2.0
/**
 * Bindings of SNAT addresses that several gateways share: routers may send either of them what comes back, and a connection's own packets too.
 *
 * Redis knows who has which port towards which remote end. Each gateway tries the same few ports for a flow, in the same order; the first that
 * nobody has, or that the flow has already, is its binding, so that the gateway that takes a flow over comes to the same one. What comes back
 * to a port that no flow here has is asked about. Packets wait meanwhile. While Redis does not answer, each gateway gives ports by itself, and what
 * comes back to another one is dropped, as without sharing.
 */
import type { Claim, Claims } from '@detour/affinity';
import { decodeSnatHolder, encodeSnatHolder, snatPortKey } from '@detour/contracts';
import { type FlowKey, flowKeyText, normaliseTuple, PROTO, snatCandidates, type Tuple } from '@detour/core';
import type { HeldPacket } from './punt-desk.js';
import { addressBytes } from './row-bytes.js';
import type { SnatDesk } from './snat-desk.js';
import { bindingText, ipv4Number, type SnatTable, snatUse } from './snat-table.js';
import { TokenBucket } from './token-bucket.js';

export interface SnatShareOptions {
  readonly desk: SnatDesk;
  readonly table: SnatTable;
  readonly claims: Claims;
  /** Of the version in force: the address of a port, 16 bytes, if other gateways use it too. */
  readonly sharedAddressOf: (port: number) => Uint8Array | null;
  /** The same on all gateways, and secret. */
  readonly chanceOf: (key: FlowKey) => number;
  readonly monoMs: () => number;
  /** Questions about what came back, of all sources; default 10,000 a second. */
  readonly asksPerS?: number;
  readonly putBack: (packets: readonly HeldPacket[]) => void;
  readonly dropHeld: (packets: readonly HeldPacket[], why: 'snat_full' | 'snat_unknown') => void;
  readonly onError: (error: unknown) => void;
}

const HELD = { budgetMs: 500 } as const;
/** A port that nobody has used for so long may be another flow's. */
const TTL_S = 300;
const EXTEND_EVERY_MS = 60_000;
const ASKS_PER_S = 10_000;
const MAX_WAITING = 16_384;
const MAX_OF_ONE = 16;

export class SnatShare {
  /**
   * claimed: ports; known: bindings of other gateways that were found; unknown: what came back for nobody; alone: Redis gave no answer;
   * contested: bindings found once a minute whose port another flow has by Redis's word; limited: what came back beyond the bound.
   */
  readonly counts = { claimed: 0, known: 0, unknown: 0, alone: 0, contested: 0, limited: 0 };
  private readonly asking: TokenBucket;
  private readonly waiting = new Map<string, HeldPacket[]>();
  private extendedMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: SnatShareOptions) {
    this.asking = new TokenBucket(options.asksPerS ?? ASKS_PER_S, options.monoMs);
  }

  /** A packet that is about to leave by this port, as SnatDesk takes it. */
  take(key: FlowKey, innerIsB: boolean, outPort: number, packet: HeldPacket): void {
    const { desk, table, sharedAddressOf } = this.options;
    const shared = sharedAddressOf(outPort);
    const held = shared === null ? null : table.read(key);
    const isBound = shared !== null && held?.address === ipv4Number(shared) && held.innerIsB === innerIsB;
    if (shared === null || isBound) {
      desk.take(key, innerIsB, outPort, packet);
      return;
    }
    const address = ipv4Number(shared);
    this.wait(`out ${outPort} ${flowKeyText(key)}`, packet, async (packets) => {
      const bound = await this.claim({ key, innerIsB, outPort, address });
      if (bound === 'full') this.options.dropHeld(packets, 'snat_full');
      else for (const one of packets) desk.take(key, innerIsB, outPort, one); // if alone: by itself
    });
  }

  /** A packet from outside to a SNAT address, of which no flow here has that port. `tuple` is the packet's. */
  takeUnknown(tuple: Tuple, packet: HeldPacket): void {
    const { dropHeld, putBack } = this.options;
    if (!this.asking.take(1)) {
      this.counts.limited++;
      dropHeld([packet], 'snat_unknown');
      return;
    }
    const remotePort = tuple.proto === PROTO.icmp ? 0 : tuple.sport;
    const { vrf, proto } = tuple;
    const use = { vrf, proto, address: ipv4Number(tuple.dst), remote: ipv4Number(tuple.src), remotePort };
    const port = { ...use, port: tuple.dport };
    this.wait(`in ${snatPortKey(port)}`, packet, async (packets) => {
      const [answer] = await this.options.claims.holders([snatPortKey(port)], HELD);
      const inner = answer?.ok === true && answer.value !== null ? decodeSnatHolder(answer.value) : null;
      if (inner === null) {
        this.counts.unknown++;
        dropHeld(packets, 'snat_unknown');
        return;
      }
      const dst = addressBytes(bindingText({ address: inner.address, port: 0 }));
      const sport = proto === PROTO.icmp ? inner.port : tuple.sport;
      const { key, norm } = normaliseTuple({ ...tuple, dst, dport: inner.port, sport });
      const wanted = { key, innerIsB: norm === 0, outPort: packet.port, address: use.address };
      if (!this.options.desk.bindTo(wanted, tuple.dport)) {
        dropHeld(packets, 'snat_unknown');
        return;
      }
      this.counts.known++;
      putBack(packets);
    });
  }

  /** With each sweep: ports in use stay their flows'. */
  async extend(signal: AbortSignal): Promise<void> {
    const { table, claims, monoMs, sharedAddressOf } = this.options;
    if (monoMs() - this.extendedMs < EXTEND_EVERY_MS) return;
    this.extendedMs = monoMs();
    const entries: Claim[] = [];
    for await (const { key, binding } of table.all(signal)) {
      if (sharedAddressOf(binding.outPort) === null) continue;
      const { use, inner } = snatUse(key, binding);
      const holder = encodeSnatHolder(inner);
      entries.push({ key: snatPortKey({ ...use, port: binding.port }), holder, ttlS: TTL_S });
    }
    this.counts.contested += await claims.extend(entries);
  }

  private async claim(wanted: {
    readonly key: FlowKey;
    readonly innerIsB: boolean;
    readonly outPort: number;
    readonly address: number;
  }): Promise<'bound' | 'alone' | 'full'> {
    const { desk, claims, chanceOf } = this.options;
    const { use, inner } = snatUse(wanted.key, wanted);
    const holder = encodeSnatHolder(inner);
    for (const port of snatCandidates(use.proto, inner.port, chanceOf(wanted.key))) {
      const [answer] = await claims.claim(
        [{ key: snatPortKey({ ...use, port }), holder, ttlS: TTL_S }],
        HELD,
      );
      if (answer?.ok !== true) {
        this.counts.alone++;
        return 'alone';
      }
      if (answer.value !== holder || !desk.bindTo(wanted, port)) continue;
      this.counts.claimed++;
      return 'bound';
    }
    return 'full';
  }

  private wait(id: string, packet: HeldPacket, settle: (packets: HeldPacket[]) => Promise<void>): void {
    const { dropHeld, onError } = this.options;
    const others = this.waiting.get(id);
    if (others !== undefined && others.length < MAX_OF_ONE) {
      others.push(packet);
      return;
    }
    if (others !== undefined || this.waiting.size >= MAX_WAITING) {
      dropHeld([packet], 'snat_full');
      return;
    }
    const packets = [packet];
    this.waiting.set(id, packets);
    void settle(packets)
      .catch((error: unknown) => {
        onError(error);
        dropHeld(packets, 'snat_full');
      })
      .finally(() => this.waiting.delete(id));
  }
}
