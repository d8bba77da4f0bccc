// SPDX-License-Identifier: Apache-2.0
/** A lab as data: namespaces, the links between them, and what runs inside. */

/** One end of a veth pair. */
export interface LinkEnd {
  /** The lab's own (short) namespace name. */
  readonly ns: string;
  readonly device: string;
  readonly mac?: string;
  /** IPv4 and IPv6, with prefix length: `10.1.0.1/24`, `2001:db8:1::1/64`. */
  readonly addresses?: readonly string[];
  /** Makes the device a port of this bridge of its namespace. */
  readonly bridge?: string;
  /** Turns transmit checksum offload off: needed where the other end runs an XDP program that reads packets. */
  readonly txOffload?: 'off';
  /** Leaves VLAN tags in the frame, where an XDP program at the other end sees them; the kernel would carry them beside it. */
  readonly vlanOffload?: 'off';
  /** Attaches an XDP program that passes everything: needed where the other end is a target of XDP redirects. */
  readonly xdpPass?: true;
}

/** A veth pair; `mtu` (bytes, default 1500) holds for both ends. */
export interface LinkSpec {
  readonly a: LinkEnd;
  readonly b: LinkEnd;
  readonly mtu?: number;
}

/** A Linux bridge inside a namespace. */
export interface BridgeSpec {
  readonly name: string;
  readonly mtu?: number;
  readonly addresses?: readonly string[];
}

/** The kernel's own VXLAN device with one fixed remote end, or several that it knows by the MAC addresses behind them. */
export interface VxlanSpec {
  readonly name: string;
  readonly vni: number;
  readonly local: string;
  readonly remote: string | readonly { readonly address: string; readonly mac: string }[];
  readonly port?: number;
  readonly mtu?: number;
  readonly mac?: string;
  readonly addresses?: readonly string[];
}

export interface RouteSpec {
  /** A prefix (`::/0` for an IPv6 default route without `via`). */
  readonly to: string;
  readonly via?: string;
  readonly dev?: string;
  readonly table?: number;
  readonly src?: string;
}

/** A policy routing rule (`ip rule`), IPv4, or IPv6 with `family: 6`. */
export interface RuleSpec {
  readonly iif?: string;
  readonly fwmark?: number;
  readonly table: number;
  readonly priority: number;
  readonly family?: 6;
}

export interface NeighbourSpec {
  readonly address: string;
  readonly mac: string;
  readonly dev: string;
}

/**
 * A process started with the lab, in its namespace. `{dir}` in `argv`, `env` and the contents of `files` stands for
 * a directory of the process's own, removed with the lab; `files` are written there before it starts.
 */
export interface ProcessSpec {
  readonly name: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
  /** `createLab` returns only after the process has logged this text; default: it does not wait. */
  readonly readyLog?: string;
  /** User that owns the directory and files (for daemons that drop privileges). */
  readonly user?: string;
}

export interface NamespaceSpec {
  readonly bridges?: readonly BridgeSpec[];
  readonly vxlans?: readonly VxlanSpec[];
  readonly routes?: readonly RouteSpec[];
  readonly rules?: readonly RuleSpec[];
  readonly neighbours?: readonly NeighbourSpec[];
  /** Dotted keys below /proc/sys, written after the devices exist: `net.ipv4.ip_forward`. */
  readonly sysctls?: Readonly<Record<string, string | number>>;
  /** An nftables ruleset, as `nft -f` reads it. */
  readonly nft?: string;
  readonly processes?: readonly ProcessSpec[];
}

export interface LabSpec {
  readonly namespaces: Readonly<Record<string, NamespaceSpec>>;
  readonly links: readonly LinkSpec[];
}
