// SPDX-License-Identifier: Apache-2.0
// What this gateway says of itself: KV gateway.<name> for `apply --wait`, the GatewayStatus message, and alarms that follow from its state.
import type { GatewayDrain, GatewayStatus, GatewayValue, NodeStatus, PortStatus } from '@detour/contracts';
import { type CounterMaps, readNode } from './counters.js';
import type { Datapath } from './datapath.js';
import type { GatewayCore } from './gateway-core.js';
import type { HealthBook } from './health.js';
import { type AnyNode, everyNode, isArmed } from './model.js';
import type { SweepResult } from './sweeper.js';
import type { TableBook, TableSet } from './table-book.js';
import type { Ways } from './ways.js';

export interface StatusSources {
  readonly gateway: string;
  readonly core: GatewayCore;
  readonly book: TableBook;
  readonly health: HealthBook;
  readonly datapath: Datapath;
  readonly ways: Ways;
  readonly counters: CounterMaps;
  readonly lastSweep: () => SweepResult | null;
  readonly draining: (node: string) => boolean;
  readonly connected: () => Record<string, boolean>;
  readonly decided: () => Record<string, bigint>;
  readonly figures: () => Record<string, bigint>;
  readonly digests: () => { rules: Uint8Array; paths: Uint8Array };
  /** To routers: yes, or why not; '' when nothing is asked for. */
  readonly announced: () => string;
  readonly drain: () => GatewayDrain | undefined;
  readonly alarms: () => readonly { code: string; subject: string; text: string; sinceMs: number }[];
}

/** The last refusal, until a revision is published again. */
export interface Refusal {
  readonly revision: number;
  readonly why: string;
}

export function gatewayValue(running: TableSet | null, refusal: Refusal | null, nowMs: number): GatewayValue {
  return {
    running: running?.model.revision ?? 0,
    refused: refusal?.revision ?? 0,
    why: refusal?.why ?? '',
    atMs: nowMs,
  };
}

export function gatewayStatus(sources: StatusSources, refusal: Refusal | null): GatewayStatus {
  const running = sources.core.running;
  const { rules, paths } = sources.digests();
  return {
    gateway: sources.gateway,
    runningRevision: running?.model.revision ?? 0,
    refusedRevision: refusal?.revision ?? 0,
    refusedWhy: refusal?.why ?? sources.book.waitingFor(),
    rules: running?.rulesVersion,
    paths: running?.pathsVersion,
    ports: running === null ? [] : portStatus(sources, running),
    nodes: running === null ? [] : everyNode(running.model).map((node) => nodeStatus(sources, node)),
    decided: sources.decided(),
    connected: sources.connected(),
    figures: sources.figures(),
    alarms: sources.alarms().map((alarm) => ({ ...alarm, sinceMs: BigInt(alarm.sinceMs) })),
    rulesDigest: rules,
    pathsDigest: paths,
    pinDir: sources.datapath.pinDir,
    announced: sources.announced(),
    drain: sources.drain(),
  };
}

function portStatus(sources: StatusSources, running: TableSet): PortStatus[] {
  const modes = new Map(sources.datapath.ports.attachments().map((row) => [row.device, row]));
  const vrf = (number: number) =>
    running.model.vrfs.find((row) => row.number === number)?.name ?? `${number}`;
  return running.model.ports.map((port) => {
    const attachment = modes.get(port.tunnel?.inner ?? port.vlan?.lower ?? port.device);
    return {
      name: port.name,
      number: port.number,
      kind: port.kind,
      device: port.device,
      vrf: vrf(port.vrf),
      classify: port.classify,
      attachMode: attachment?.mode ?? 'none',
      why: attachment?.why ?? 'the program is not attached',
    };
  });
}

function nodeStatus(sources: StatusSources, node: AnyNode): NodeStatus {
  const view = sources.health.viewOf(node);
  const counters = readNode(sources.counters, node.number);
  const hopWhy = sources.ways.explain(node);
  return {
    name: node.label,
    health: view.shown,
    source: view.source,
    why: view.why,
    device: isArmed(node) ? node.arms.map((arm) => arm.device).join(' ') : node.device,
    hopReady: hopWhy === '',
    hopWhy,
    ...counters,
    flows: BigInt(sources.lastSweep()?.byNode.get(node.number) ?? 0),
    draining: sources.draining(node.name),
  };
}
