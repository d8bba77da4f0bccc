// SPDX-License-Identifier: Apache-2.0
// Events of the datapath's ring, one by one: punts go to the desks, re-pins to the affinity keeper, revalidations to the rules.
import { abi } from '@detour/contracts';
import { formatAddress } from '@detour/core';
import type { FlowQuestion } from './decision.js';
import type { FragmentDesk } from './fragment-desk.js';
import type { NeighbourDesk } from './neighbour-desk.js';
import type { OuterErrorDesk } from './outer-error-desk.js';
import type { HeldPacket, PuntDesk } from './punt-desk.js';
import type { LostSegment, ResetDesk } from './reset-desk.js';
import type { SnatShare } from './snat-share.js';
import type { TooBigDesk } from './too-big-desk.js';

export interface Repin {
  readonly key: abi.FlowKey;
  readonly oldPath: number;
  readonly newPath: number;
  readonly chain: number;
  readonly initiatorIsB: boolean;
}

/** A flow that the datapath decided, once it is more than its opening packet. */
export interface DecidedFlow {
  readonly key: abi.FlowKey;
  readonly slot: number;
  /** 0: it is not steered, or no path is up. */
  readonly path: number;
  readonly chain: number;
  readonly initiatorIsB: boolean;
}

export interface EventDeskOptions {
  readonly punts: PuntDesk;
  readonly neighbours: NeighbourDesk;
  readonly fragments: FragmentDesk;
  readonly tooBig: TooBigDesk;
  readonly outerErrors: OuterErrorDesk;
  readonly snatShare: Pick<SnatShare, 'take' | 'takeUnknown'>;
  readonly resets: Pick<ResetDesk, 'take'>;
  readonly deviceName: (ifindex: number) => string | undefined;
  /** The arm that a hop row stands for. */
  readonly armOf: (hop: number) => { readonly device: string; readonly nextHop: string } | undefined;
  readonly dropHeld: (packets: readonly HeldPacket[], reason: number) => void;
  readonly onRepin: (repin: Repin) => void;
  readonly onDecided: (flow: DecidedFlow) => void;
  readonly onRevalidate: (question: FlowQuestion, established: abi.FlowKey) => void;
  readonly onHopNotReady: (node: number) => void;
}

const TCP = 6;
const SYN = 0x02;
const ACK = 0x10;

/** Handles one record of the ring; the view is the ring's memory, so what is kept is copied. */
export function handleEvent(record: Uint8Array, options: EventDeskOptions): void {
  const event = abi.event.decode(record);
  switch (event.type) {
    case abi.EventType.EVENT_PUNT_MISS: {
      const first = (event.first & abi.EventFirst.EVENT_FIRST) !== 0;
      options.punts.take(keyText(record), questionOf(event), heldPacket(record, event), first);
      return;
    }
    case abi.EventType.EVENT_PUNT_NEIGH: {
      const packet = heldPacket(record, event);
      const arm = event.oldPath === 0 ? undefined : options.armOf(event.oldPath);
      const device = event.oldPath === 0 ? options.deviceName(event.outIfindex) : arm?.device;
      if (device === undefined) options.dropHeld([packet], abi.DropReason.DROP_ARP_FAIL);
      else options.neighbours.take(device, arm?.nextHop ?? formatAddress(event.nextHop), packet);
      return;
    }
    case abi.EventType.EVENT_REPIN:
      options.onRepin({
        key: event.key,
        oldPath: event.oldPath,
        newPath: event.newPath,
        chain: event.chain,
        initiatorIsB: event.norm === 1, // of the packet that moved it; the keeper reads the record for the flow's own
      });
      return;
    case abi.EventType.EVENT_DECIDED:
      options.onDecided({
        key: event.key,
        slot: event.oldPath,
        path: event.newPath,
        chain: event.chain,
        initiatorIsB: event.norm === 1,
      });
      return;
    case abi.EventType.EVENT_REVALIDATE:
      options.onRevalidate(questionOf(event), event.key);
      return;
    case abi.EventType.EVENT_HOP_NEIGH:
      options.onHopNotReady(event.node);
      return;
    case abi.EventType.EVENT_TOO_BIG:
      options.tooBig.take(heldPacket(record, event), event.oldPath);
      return;
    case abi.EventType.EVENT_FRAGMENT:
      options.fragments.take(datagramId(record, event), heldPacket(record, event));
      return;
    case abi.EventType.EVENT_FRAGMENT_FIRST:
      options.fragments.settle(datagramId(record, event));
      return;
    case abi.EventType.EVENT_OUTER_ERROR:
      options.outerErrors.take(heldPacket(record, event).frame);
      return;
    case abi.EventType.EVENT_PUNT_SNAT:
      options.snatShare.take(event.key, event.norm === 1, event.oldPath, heldPacket(record, event));
      return;
    case abi.EventType.EVENT_SNAT_UNKNOWN:
      options.snatShare.takeUnknown(questionOf(event).tuple, heldPacket(record, event));
      return;
    case abi.EventType.EVENT_RESET:
      options.resets.take(lostSegment(event));
      return;
    default:
      return;
  }
}

function keyText(record: Uint8Array): string {
  const at = record.byteOffset + abi.event.offsets.key;
  return Buffer.from(record.buffer, at, abi.flowKey.size).toString('latin1');
}

/** Source, destination, VRF and protocol stand in the event's key, the identification beside it. */
function datagramId(record: Uint8Array, event: abi.Event): string {
  return `${event.oldPath} ${keyText(record)}`;
}

function questionOf(event: abi.Event): FlowQuestion {
  const { key } = event;
  const norm = event.norm === 1 ? 1 : 0;
  const fromB = norm === 1;
  return {
    tuple: {
      vrf: key.vrf,
      proto: key.proto,
      src: fromB ? key.b : key.a,
      dst: fromB ? key.a : key.b,
      sport: fromB ? key.bport : key.aport,
      dport: fromB ? key.aport : key.bport,
    },
    key,
    norm,
    port: event.port,
    syn: key.proto === TCP && (event.tcpFlags & (SYN | ACK)) === SYN,
    sampled: (event.first & abi.EventFirst.EVENT_SAMPLED) !== 0,
    again: (event.first & abi.EventFirst.EVENT_AGAIN) !== 0,
  };
}

function lostSegment(event: abi.Event): LostSegment {
  const { tuple } = questionOf(event);
  return {
    src: formatAddress(tuple.src),
    dst: formatAddress(tuple.dst),
    srcPort: tuple.sport,
    dstPort: tuple.dport,
    seq: event.oldPath,
    ack: event.newPath,
    flags: event.tcpFlags,
    dataBytes: event.outIfindex,
    port: event.port,
    first: (event.first & abi.EventFirst.EVENT_FIRST) !== 0,
  };
}

function heldPacket(record: Uint8Array, event: abi.Event): HeldPacket {
  const from = abi.event.size;
  // Out of Node's pool: memory of its own for each packet costs more than all else that is done here
  const frame = Buffer.allocUnsafe(event.packetLen);
  frame.set(record.subarray(from, from + event.packetLen));
  return {
    frame,
    op: event.op,
    port: event.port,
    node: event.node,
  };
}
