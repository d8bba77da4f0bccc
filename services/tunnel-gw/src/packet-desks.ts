// SPDX-License-Identifier: Apache-2.0
// The desks for packets that are no whole, fitting packets of a flow: too big, in pieces out of order, or an ICMP error about an outer
// packet; and for those that lack something: a SNAT binding, a node that is up. Put together from the parts of a gateway.
import type { Claims } from '@detour/affinity';
import type { BpfMap } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { describeError, normaliseTuple, selectionHash, type Tuple } from '@detour/core';
import type { FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import { FragmentDesk } from './fragment-desk.js';
import type { GatewayCore } from './gateway-core.js';
import type { Injector } from './injector.js';
import { OuterErrorDesk, type TunnelHop } from './outer-error-desk.js';
import type { PathMtus } from './path-mtus.js';
import { ResetDesk } from './reset-desk.js';
import { addressBytes, u32Key } from './row-bytes.js';
import { BRANCH_HOPS } from './rows.js';
import { SnatDesk } from './snat-desk.js';
import { SnatShare } from './snat-share.js';
import { SnatTable } from './snat-table.js';
import { TooBigDesk } from './too-big-desk.js';

export interface PacketDesks {
  readonly fragments: FragmentDesk;
  readonly tooBig: TooBigDesk;
  readonly outerErrors: OuterErrorDesk;
  readonly resets: ResetDesk;
  readonly snat: SnatDesk;
  readonly snatShare: SnatShare;
  readonly snatTable: SnatTable;
}

export interface PacketDesksOptions {
  readonly core: GatewayCore;
  readonly flows: FlowTable;
  readonly injector: Injector;
  readonly hops: BpfMap;
  readonly snatMaps: { readonly bindings: BpfMap; readonly inners: BpfMap };
  readonly claims: Claims;
  readonly onSnatFull: (text: string | null) => void;
  readonly onError: (text: string) => void;
  readonly readBank: () => number;
  readonly pathMtus: PathMtus;
  readonly monoMs: () => number;
  readonly onPathMtu: (remote: string, mtu: number, router: string) => void;
}

/** How long a fragment waits for its first: reordering on a network is a matter of milliseconds. */
const HOLD_FRAGMENT_MS = 500;
/** A datagram of 64 KiB in fragments of 1,280 bytes. */
const MAX_FRAGMENTS = 53;
const MAX_DATAGRAMS = 1024;
const MAX_FRAGMENT_BYTES = 8 << 20;
/** As many ICMP errors as Linux sends (icmp_msgs_per_sec). */
const MESSAGES_PER_S = 1000;
/** The connections of a node that carried thousands are told within seconds; one RST takes some 10 µs. */
const RESETS_PER_S = 10_000;

export function packetDesks(options: PacketDesksOptions): PacketDesks {
  const { core, injector, monoMs, pathMtus } = options;
  const tooBig = new TooBigDesk({
    messagesPerS: MESSAGES_PER_S,
    monoMs,
    from: (entered, towards) => core.view.ownAddress(entered, towards),
    putBack: (packets) => injector.putBack(packets),
    dropHeld: (packets) => injector.drop(packets, abi.DropReason.DROP_TOO_BIG),
  });
  const snatTable = new SnatTable(options.snatMaps);
  const snat = snatDesk(options, snatTable);
  return {
    tooBig,
    snatTable,
    snat,
    snatShare: snatShare(options, snat, snatTable),
    resets: new ResetDesk({
      resetsPerS: RESETS_PER_S,
      monoMs,
      putBack: (packets) => injector.putBack(packets),
    }),
    fragments: new FragmentDesk({
      holdMs: HOLD_FRAGMENT_MS,
      maxPacketsPerDatagram: MAX_FRAGMENTS,
      maxDatagrams: MAX_DATAGRAMS,
      maxBytes: MAX_FRAGMENT_BYTES,
      monoMs,
      putBack: (packets) => injector.putBack(packets),
      dropHeld: (packets) => injector.drop(packets, abi.DropReason.DROP_FRAGMENT),
    }),
    outerErrors: new OuterErrorDesk({
      hops: () => tunnelHops(options),
      pathMtus,
      onPathMtu: options.onPathMtu,
      isThrough: (tunnel, tuple) => isThrough(options, tunnel, tuple),
      tell: (packet, news) => tooBig.tell(packet, news),
    }),
  };
}

function snatDesk(options: PacketDesksOptions, table: SnatTable): SnatDesk {
  const { core, flows, injector, monoMs } = options;
  const { DROP_SNAT_FULL, DROP_DECISION_TIMEOUT } = abi.DropReason;
  const reasons = { snat_full: DROP_SNAT_FULL, decision_timeout: DROP_DECISION_TIMEOUT };
  return new SnatDesk({
    table,
    addressOf: (port) => {
      const model = core.running?.model;
      const snat = model?.ports.find(({ number }) => number === port)?.snat;
      return snat === undefined ? model && null : addressBytes(snat);
    },
    hasRecord: (key) => flows.read(key) !== null,
    monoMs,
    nowNs: () => process.hrtime.bigint(),
    random: Math.random,
    putBack: (packets) => injector.putBack(packets),
    dropHeld: (packets, why) => injector.drop(packets, reasons[why]),
    onFull: options.onSnatFull,
    onError: options.onError,
  });
}

function snatShare(options: PacketDesksOptions, desk: SnatDesk, table: SnatTable): SnatShare {
  const { core, injector, monoMs, claims } = options;
  const { DROP_SNAT_FULL, DROP_SNAT_UNKNOWN } = abi.DropReason;
  const reasons = { snat_full: DROP_SNAT_FULL, snat_unknown: DROP_SNAT_UNKNOWN };
  const none = { lo: 0, hi: 0 };
  return new SnatShare({
    ...{ desk, table, claims, monoMs },
    sharedAddressOf: (number) => {
      const port = core.running?.model.ports.find((row) => row.number === number);
      return port?.snat === undefined || port.snatShared !== true ? null : addressBytes(port.snat);
    },
    chanceOf: (key) => selectionHash(key, '5-tuple', false, core.running?.model.hashKey ?? none),
    putBack: (packets) => injector.putBack(packets),
    dropHeld: (packets, why) => injector.drop(packets, reasons[why]),
    onError: (error) => options.onError(`a shared binding could not be stored: ${describeError(error)}`),
  });
}

/** Every tunnel of the live revision with its hop row as packets use it now. */
function* tunnelHops({ core, hops, readBank }: PacketDesksOptions): Iterable<TunnelHop> {
  const model = core.running?.model;
  if (model === undefined) return;
  const bank = readBank();
  const row = (number: number): abi.Hop | null => {
    const value = hops.lookup(u32Key(bank * abi.DetourLimit.DT_MAX_HOPS + number));
    return value === undefined ? null : abi.hop.decode(value);
  };
  for (const { number, remote, vrf } of model.nodes) {
    const hop = row(number);
    if (hop !== null) yield { remote, vrf, node: number, port: 0, hop };
  }
  for (const { number, vrf, tunnel } of model.ports) {
    const hop = tunnel === null ? null : row(BRANCH_HOPS + number);
    if (tunnel !== null && hop !== null) yield { remote: tunnel.remote, vrf, node: 0, port: number, hop };
  }
}

function isThrough({ core, flows }: PacketDesksOptions, tunnel: TunnelHop, tuple: Tuple): boolean {
  const record = flows.read(normaliseTuple(tuple).key);
  if (record === null) return false;
  const { action, path } = unpackFlowWord(record.flow.word);
  const { FLOW_STEER, FLOW_ALLOW } = abi.FlowAction;
  if (tunnel.node === 0) return action === FLOW_STEER || action === FLOW_ALLOW;
  return action === FLOW_STEER && core.running?.model.pathNodes.get(path)?.includes(tunnel.node) === true;
}
