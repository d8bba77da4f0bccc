// SPDX-License-Identifier: Apache-2.0
// What a trace is asked, what it reads, and what it answers.
import type { abi } from '@detour/contracts';
import type { FlowKey, Tuple } from '@detour/core';
import type { LiveTables } from './decision.js';
import type { AnyNode, GatewayModel } from './model.js';
import type { SnatTable } from './snat-table.js';

export interface TracePacket {
  readonly port: string; // a port's name, or a node's for a packet that it returns
  readonly tuple: Omit<Tuple, 'vrf'>;
  readonly syn: boolean;
  readonly lengthBytes: number; // L3
  readonly ttl: number;
}

export interface TraceStep {
  readonly step: string;
  readonly found: string;
  readonly why: string;
}

export interface TraceAnswer {
  readonly steps: readonly TraceStep[];
  readonly verdict: 'forward' | 'pass' | 'drop' | 'punt';
  readonly reason: string;
  readonly egress: string;
  readonly node: string;
}

export interface RouteAnswer {
  readonly device: string;
  readonly via: string;
  readonly mtu: number;
  readonly text: string;
}

export const OUTDATED = {
  ended: 'its connection was closed or reset; a SYN on the same ports begins another',
  'not answered': 'a SYN that is sent again is asked about: another gateway may have had its answer',
} as const;
export type Outdated = keyof typeof OUTDATED;

export type SnatView = Pick<SnatTable, 'read' | 'innerOf'>;

/** What the trace reads; all of it live. */
export interface TraceView {
  readonly model: GatewayModel;
  readonly tables: LiveTables;
  readonly live: boolean;
  readonly record: (key: FlowKey) => { flow: abi.Flow; established: boolean } | null;
  /** Why a flow's record says nothing of a SYN; null where it does. As flow_ended in datapath/lib/flow.h has it. */
  readonly outdated: (flow: abi.Flow) => Outdated | null;
  readonly isOwn: (vrf: number, address: Uint8Array) => boolean;
  /** The way out by a VRF's Linux routing table; null: no route. */
  readonly route: (table: number, dst: Uint8Array) => Promise<RouteAnswer | null>;
  readonly neighbour: (device: string, address: string) => string | null;
  readonly snat: SnatView;
  readonly hop: (node: AnyNode) => { ready: boolean; why: string; mtu: number };
}

export type End = Omit<TraceAnswer, 'steps'>;
export const drop = (reason: string): End => ({ verdict: 'drop', reason, egress: '', node: '' });
export const pass: End = { verdict: 'pass', reason: '', egress: '', node: '' };
export const punt = (reason: string): End => ({ verdict: 'punt', reason, egress: '', node: '' });

/** Notes one step. */
export type Add = (step: string, found: string, why?: string) => void;
