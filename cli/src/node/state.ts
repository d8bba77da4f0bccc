// SPDX-License-Identifier: Apache-2.0
/** Up, or why not: one sentence from all that is known of an attached node. Pure; the first cause on the packet's way wins. */
import { bfdDiag } from '@detour/wire';
import type { BfdView } from './bfd-responder.js';
import type { NodeConfig } from './config.js';
import type { Counts, GatewayCounts } from './datapath.js';

/** What was counted of a gateway when something of it last went well. */
interface Mark {
  readonly in: bigint;
  readonly wrongTagPackets: bigint;
  readonly dropped: bigint;
  readonly drops: Readonly<Record<string, number>>;
  readonly echoBack: bigint;
  readonly echoIn: bigint;
}
export type Marks = readonly Mark[];

/** Keeps, for each gateway, the counts as they were when a packet last came through, and when an echo last came back. */
export function advanceMarks(marks: Marks, counts: Counts): Marks {
  return counts.gateways.map((now, i) => {
    const before = marks[i];
    const came = before === undefined || now.inPackets > before.in;
    const returned = before === undefined || now.echoBack > before.echoBack;
    return {
      in: now.inPackets,
      wrongTagPackets: came ? now.wrongTagPackets : before.wrongTagPackets,
      dropped: came ? now.dropped : before.dropped,
      drops: came ? counts.drops : before.drops,
      echoBack: now.echoBack,
      echoIn: returned ? now.echoIn : before.echoIn,
    };
  });
}

export interface Observed {
  readonly config: NodeConfig;
  /** Why the machine is not ready; null when it is. */
  readonly machine: string | null;
  readonly counts: Counts;
  readonly marks: Marks;
  /** By gateway; null where there is no session. */
  readonly bfd: readonly (BfdView | null)[];
  /** Milliseconds since a gateway's last TCP connection; null = none came, or there is no such port. */
  readonly tcpAgoMs: readonly (number | null)[];
  readonly nowNs: bigint;
}

export interface GatewayState {
  readonly gateway: string;
  readonly state: 'up' | 'down';
  readonly why: string;
}

/** Echoes of the gateway without an answer before the pair counts as not forwarding. */
const UNANSWERED = 3n;
/** A gateway that is quiet for so long is gone: it sends a probe a second at least. */
const SILENT_NS = 5_000_000_000n;

/** One row for each gateway. */
export function decideStates(seen: Observed): GatewayState[] {
  return seen.config.gateways.map(({ address }, i) => {
    const why = seen.machine ?? whyOfGateway(seen, i) ?? '';
    return { gateway: address, state: why === '' ? 'up' : 'down', why };
  });
}

/** Whether what comes out of the pair's one side reaches the other, as far as it was tried. */
export function pairForwards({ counts, marks }: Pick<Observed, 'counts' | 'marks'>): boolean {
  return counts.gateways.every((now, i) => now.echoIn - (marks[i]?.echoIn ?? 0n) < UNANSWERED);
}

function whyOfGateway(seen: Observed, i: number): string | null {
  const { config, counts, marks } = seen;
  const gateway = config.gateways[i];
  const now = counts.gateways[i];
  const mark = marks[i];
  if (gateway === undefined || now === undefined || mark === undefined) return 'not looked at yet';
  const name = `gateway ${gateway.address}`;
  const quiet = whyQuiet(seen, i, name, now);
  if (quiet !== null) return quiet;
  if (now.wrongTagPackets > mark.wrongTagPackets) return wrongTag(config, name, now.wrongTag);
  if (now.dropped - mark.dropped >= 2n)
    return `what ${name} sends is dropped: ${describeDrops(counts.drops, mark.drops)}`;
  const unanswered = now.echoIn - mark.echoIn;
  if (unanswered >= UNANSWERED) {
    const { in: one, out } = config.pair;
    return `the interface pair is not forwarding: the last ${unanswered} echo packets of ${name} came out of ${one}, none came back by ${out}: look at the filter, and at what brings packets from ${one} to ${out}`;
  }
  return whyBfd(seen, i, name, now);
}

function whyQuiet({ counts, nowNs, tcpAgoMs }: Observed, i: number, name: string, now: GatewayCounts) {
  const tcp = tcpAgoMs[i];
  if (now.lastNs === 0n && tcp !== null && tcp !== undefined && tcp * 1_000_000 < SILENT_NS) return null;
  if (now.lastNs === 0n) {
    const { address, packets } = counts.stranger;
    const strange =
      packets === 0
        ? ''
        : `; ${packets} tunnel packets came from ${address}, which is no gateway of this node`;
    return `no packet from ${name} yet${strange}`;
  }
  const ago = nowNs - now.lastNs;
  return ago > SILENT_NS ? `no packet from ${name} for ${ago / 1_000_000_000n} s` : null;
}

function wrongTag({ attach }: NodeConfig, name: string, seen: bigint): string {
  if (attach.kind === 'gwlb') return `${name} sends VNI ${seen}, gwlb has VNI 0`;
  if (attach.protocol === 'gre') {
    const own = attach.key === undefined ? 'none' : String(attach.key);
    return `${name} sends another GRE key: ${seen} (0 = none), this node has ${own}`;
  }
  return `${name} sends VNI ${seen}, this node has ${attach.vni}`;
}

const REASONS: Readonly<Record<string, string>> = {
  tunnel_checksum: 'wrong checksum of the outer header',
  tunnel_option: 'a Geneve option that must be known and is not',
  tunnel_header:
    'another thing inside the tunnel than this node expects (inner: l2 or l3), or header bits of a later version',
  too_big: 'larger than the pair’s MTU',
  adjust: 'more options than can be given back',
  ttl: 'BFD from further than one hop',
  unsupported: 'no IP inside',
};

function describeDrops(drops: Counts['drops'], before: Counts['drops']): string {
  const rising = Object.entries(drops)
    .filter(([reason, packets]) => packets > (before[reason] ?? 0))
    .map(([reason]) => (REASONS[reason] === undefined ? reason : `${reason} (${REASONS[reason]})`));
  return rising.join(', ') || 'see the drops';
}

function whyBfd({ bfd, config }: Observed, i: number, name: string, now: GatewayCounts): string | null {
  const view = bfd[i];
  if (view === null || view === undefined) return null;
  if (view.trouble !== null) return `BFD: ${view.trouble}`;
  if (view.state === 'up') return null;
  const heard = view.received === 0;
  if (heard && now.linkIn > 1n)
    return `BFD: packets of ${name} to the inner address came out of ${config.pair.link}, none reached this process: a filter must let UDP port 3784 in`;
  const remote =
    view.remoteState === null ? 'not heard of' : `${view.remoteState} (${describeDiag(view.remoteDiag)})`;
  return `BFD with ${name} is ${view.state}: ${describeDiag(view.diag)}; the gateway’s end is ${remote}`;
}

/** A diagnostic code of RFC 5880 section 4.1 in words. */
export function describeDiag(diag: number): string {
  const found = Object.entries(bfdDiag).find(([, code]) => code === diag);
  return found === undefined
    ? `diagnostic ${diag}`
    : found[0].replaceAll(/([A-Z])/g, (c) => ` ${c.toLowerCase()}`);
}
