// SPDX-License-Identifier: Apache-2.0
// One gateway's part of a revision, in numbers: what its tables are made from. Pure data; desired.ts makes it from the intent.
import type { Affinity, HashKey } from '@detour/core';
import type { HistoryPolicy } from '@detour/tables';

export type PortKindName = 'internal' | 'uplink' | 'vti' | 'guest';
export type AttachMode = 'auto' | 'native' | 'generic';

/** A port: a device, or a branch VTI with its tunnel. */
export interface PortModel {
  readonly name: string;
  readonly number: number;
  readonly kind: PortKindName;
  readonly device: string; // the operator's device; for a VTI its name
  readonly vrf: number;
  readonly table: number;
  readonly classify: boolean;
  readonly attachMode: AttachMode;
  readonly tunnel: BranchTunnel | null;
  readonly vlan: VlanPort | null;
  /** IPv4 address that flows have for a source behind it. */
  readonly snat?: string;
  /** Other gateways give it to their flows too. */
  readonly snatShared?: true;
}

/** What enters there comes from the inside: such flows enter a pair by its member b. */
export function isInside({ kind }: PortModel): boolean {
  return kind === 'internal' || kind === 'guest';
}

/** A VLAN on a device. The port's own device is then the operator's side of its veth pair. */
export interface VlanPort {
  readonly lower: string;
  readonly tags: VlanTags;
  readonly inner: string; // the program's side
  readonly addresses: readonly string[];
}

/** `outer`: the service tag of QinQ. */
export interface VlanTags {
  readonly vlan: number; // 0 = untagged
  readonly outer: number; // 0 = none
}

/** A tunnel as its outer headers say it; our end is the underlay address. */
export interface TunnelModel {
  readonly protocol: 'vxlan' | 'geneve' | 'gre';
  readonly remote: string;
  /** VNI, or GRE key; null: GRE without one. */
  readonly tag: number | null;
  /** IP packets inside; else Ethernet frames. */
  readonly l3: boolean;
  readonly checksum: boolean;
  /** The node is an appliance of a gateway load balancer: what its three options say, the flow's cookie apart. */
  readonly gwlb?: { readonly endpoint: number; readonly attachment: number };
  /** Our Geneve option goes along and must come back: what it says of all flows. */
  readonly metadata?: { readonly tenant: number; readonly source: string };
}

export interface BranchTunnel extends TunnelModel {
  readonly inner: string;
  readonly mac: string;
  readonly addresses: readonly string[];
}

/** What all nodes have, however they are attached. A node that serves several VRFs is one of these in each. */
export interface NodeCommon {
  readonly name: string; // of the intent
  readonly label: string; // unique: the name, with its VRF where the node serves several
  readonly number: number;
  readonly service: string;
  readonly vrf: number;
  readonly vrfName: string;
  readonly table: number;
  readonly liveness: boolean; // a health profile is named: only 'up' counts
  readonly adminDownAction: 'keep' | 'failover';
}

/** One arm of a node: a device, or a VLAN on it, which the kernel sees as a veth pair with the arm's addresses. */
export interface ArmModel {
  readonly lower: string;
  readonly tags: VlanTags;
  readonly device: string; // the operator's side of the veth pair
  readonly inner: string; // the program's side
  readonly addresses: readonly string[]; // with prefix length
  readonly nextHop: string;
}

export interface ServicePort {
  readonly name: string;
  readonly number: number;
  readonly vrf: number;
  readonly lower: string;
  readonly tags: VlanTags;
}

/** A service node that packets reach by MAC address: a bump in the wire, or a router. */
export interface ArmedNodeModel extends NodeCommon {
  readonly kind: 'l2pair' | 'l3';
  readonly arms: readonly [uplink: ArmModel, inside: ArmModel]; // of a node with one arm twice that, with next hops of their own
}

/** A service node behind a tunnel. */
export interface NodeModel extends NodeCommon, TunnelModel {
  readonly strictReturn: boolean;
  readonly local: string; // inner address with prefix length
  readonly peer: string;
  readonly device: string; // its VTI
  readonly inner: string; // the program's side of it
  readonly mac: string;
}

export type AnyNode = NodeModel | ArmedNodeModel;

export function isArmed(node: AnyNode): node is ArmedNodeModel {
  return 'arms' in node;
}

/** Of tunnels and arms together. */
export function everyNode(model: GatewayModel): readonly AnyNode[] {
  return [...model.nodes, ...model.armed];
}

/** How a node is called where nodes are listed; the number where it is not attached here. */
export function nodeLabel(model: GatewayModel, number: number): string {
  return everyNode(model).find((node) => node.number === number)?.label ?? `${number}`;
}

export interface VrfModel {
  readonly name: string;
  readonly number: number;
  readonly table: number;
}

export interface GatewayModel {
  readonly gateway: string;
  readonly revision: number;
  readonly hashKey: HashKey;
  /** The revision has no other gateway: what is not known here is known nowhere. */
  readonly alone: boolean;
  readonly underlay: { readonly device: string; readonly address: string; readonly attachMode: AttachMode };
  readonly vrfs: readonly VrfModel[];
  readonly ports: readonly PortModel[];
  readonly nodes: readonly NodeModel[]; // behind tunnels
  readonly armed: readonly ArmedNodeModel[];
  /** Ports of kind service: they give arms a number to be counted under. */
  readonly servicePorts: readonly ServicePort[];
  /** Node numbers of every path of the revision by path number, also through nodes that are not attached here. */
  readonly pathNodes: ReadonlyMap<number, readonly number[]>;
  readonly chainNames: ReadonlyMap<number, string>;
  readonly ruleNames: ReadonlyMap<number, string>;
}

/** Which of its flows the datapath decides: none, those that begin with a TCP SYN, or any that no TCP connection's middle is. */
export type Decides = 'none' | 'opening' | 'any';

/**
 * Which flows the datapath may decide of a chain through these nodes. A cookie is a flow's from its first packet on, and comes from its counter row,
 * which a flow that the datapath decides takes later: where a node is told one, tunnel-gw is asked.
 */
export function decidesOf(model: GatewayModel): (nodes: Iterable<number>) => Decides {
  const told = new Set(
    model.nodes.flatMap(({ number, gwlb, metadata }) =>
      gwlb !== undefined || metadata !== undefined ? [number] : [],
    ),
  );
  return (nodes) => {
    for (const node of nodes) if (told.has(node)) return 'none';
    return model.alone ? 'any' : 'opening';
  };
}

/** A chain as it is to be published: settings, path states and slots, all health applied. */
export interface ChainModel {
  readonly number: number;
  readonly name: string;
  readonly onFailure: 'drop' | 'bypass' | 'backup';
  readonly backup: number;
  readonly onNodeDown: 'rebalance' | 'keep';
  readonly onRuleChange: 'revalidate' | 'keep';
  readonly affinity: Affinity;
  readonly mss: number; // largest TCP MSS of its SYNs; abi.MssClamp: 0 as it is, 1 what the hops take
  readonly slots: Uint16Array; // path number per slot; empty: none can be chosen
  readonly paths: readonly PathModel[];
  readonly gen: number;
  readonly idleMs: { readonly tcp: number; readonly udp: number; readonly other: number };
  readonly allStale: boolean;
  readonly fingerprint: string;
  readonly decides: Decides;
  /** How this gateway chooses where its own history decides; null: by the slots. */
  readonly history: HistoryPolicy | null;
  /** priority with `preempt: false`: which tier is in use is this gateway's to say. */
  readonly keepsTier: boolean;
}

export interface PathModel {
  readonly number: number;
  readonly nodes: readonly number[];
  readonly up: boolean; // not down: its pinned flows stay
  readonly weight: number; // 0: it gets no new flows
  readonly skipped: number; // optional hops that it leaves out
  readonly belowLevel: number; // nodes of it without the level of the chain's flows
  readonly heir: number; // path by which its flows go on while it is down; 0: the hash chooses
}
