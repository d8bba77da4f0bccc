// SPDX-License-Identifier: Apache-2.0
// The last part of a trace: along a path to a node, or out by the VRF's routing table.
import { formatAddress, type Tuple } from '@detour/core';
import { choosePathLocally } from './decision.js';
import { type AnyNode, type ChainModel, everyNode, isArmed, nodeLabel, type PathModel } from './model.js';
import { type Add, drop, type End, pass, punt, type TracePacket, type TraceView } from './trace-answer.js';
import { leavingSnat } from './trace-snat.js';
import { describeTunnel } from './tunnel-kind.js';

export interface OnPath {
  readonly chain: ChainModel;
  readonly path: number;
  readonly direction: 0 | 1;
  readonly table: number;
  readonly tuple: Tuple;
  readonly forward: Tuple;
  readonly inside: boolean; // this packet comes from the inside
  readonly keptDown?: boolean;
}

export async function toPath(view: TraceView, packet: TracePacket, on: OnPath, add: Add): Promise<End> {
  if (on.keptDown === true) {
    add(
      'path',
      `${on.path} is down`,
      'onNodeDown keep: its flows wait for it; ends of TCP connections are told by RST',
    );
    return drop('node_down');
  }
  const number = on.path === 0 ? backupPath(view, on, add) : on.path;
  if (number === 0) {
    add('path', 'none is up', `onFailure ${on.chain.onFailure}`);
    return on.chain.onFailure === 'bypass' ? leave(view, packet, on, on.tuple, add) : drop('node_down');
  }
  const path = pathOf(view, number);
  if (path === undefined) return drop('no_table');
  const names = path.nodes.map((number) => nodeLabel(view.model, number));
  add(
    'path',
    `${number} = ${names.join(' → ')}`,
    on.direction === 0 ? 'forward' : 'reverse, nodes in reverse order',
  );
  const first = on.direction === 0 ? path.nodes[0] : path.nodes.at(-1);
  return toNode(view, packet, { number: first, inside: on.inside }, add);
}

/** Of the backup chain, where the chain has one and no path of its own; else 0. */
function backupPath(view: TraceView, { chain, forward }: OnPath, add: Add): number {
  if (chain.onFailure !== 'backup') return 0;
  const backup = view.tables.chains.get(chain.backup);
  if (backup === undefined) return 0;
  add('chain', backup.name, `no path of chain ${chain.name} is up: its backup counts`);
  return choosePathLocally(backup, forward, view.tables.hashKey);
}

export function pathOf(view: TraceView, number: number): PathModel | undefined {
  for (const chain of view.tables.chains.values()) {
    const path = chain.paths.find((row) => row.number === number);
    if (path !== undefined) return path;
  }
  return undefined;
}

const SENDER_TOLD = 'its sender is told; IPv4 without DF is cut instead';

export function toNode(
  view: TraceView,
  packet: TracePacket,
  to: { readonly number: number | undefined; readonly inside: boolean },
  add: Add,
): End {
  const node = everyNode(view.model).find((row) => row.number === to.number);
  if (node === undefined) return drop('no_table');
  const hop = view.hop(node);
  const way = hopWay(view, node, to.inside);
  add('hop', `${node.label} through ${way.device}`, hop.ready ? way.how : hop.why);
  if (!hop.ready) return drop('hop_not_ready');
  if (packet.lengthBytes > hop.mtu) {
    add('mtu', `${packet.lengthBytes} bytes`, `more than the hop's ${hop.mtu}: ${SENDER_TOLD}`);
    return drop('too_big');
  }
  return { verdict: 'forward', reason: '', egress: way.egress, node: node.label };
}

function hopWay(
  view: TraceView,
  node: AnyNode,
  inside: boolean,
): { device: string; egress: string; how: string } {
  if (!isArmed(node))
    return {
      device: node.device,
      egress: view.model.underlay.device,
      how: describeTunnel(node),
    };
  const arm = node.arms[inside ? 1 : 0];
  const { vlan, outer } = arm.tags;
  const tag = vlan === 0 ? '' : `, VLAN ${outer === 0 ? '' : `${outer}.`}${vlan}`;
  const side = inside ? 'the inside' : 'the uplink';
  return {
    device: arm.device,
    egress: arm.lower,
    how: `next hop ${arm.nextHop}${tag}: the packet comes from ${side}`,
  };
}

export async function leave(
  view: TraceView,
  packet: TracePacket,
  { table, direction }: Pick<OnPath, 'table' | 'direction'>,
  tuple: Tuple,
  add: Add,
): Promise<End> {
  const route = await view.route(table, tuple.dst);
  if (route === null) {
    add('route', 'none', `table ${table} has no route to ${formatAddress(tuple.dst)}`);
    return drop('no_route');
  }
  add(
    'route',
    `${route.device}${route.via === '' ? '' : ` via ${route.via}`}`,
    `table ${table}: ${route.text}`,
  );
  if (packet.lengthBytes > route.mtu) {
    add('mtu', `${packet.lengthBytes} bytes`, `more than ${route.device}'s ${route.mtu}: ${SENDER_TOLD}`);
    return drop('too_big');
  }
  if (packet.ttl <= 1) {
    add('ttl', `${packet.ttl}`, 'it ends here; the kernel answers with time exceeded');
    return pass;
  }
  leavingSnat(view, { device: route.device, tuple, direction }, add);
  const tunnels = [
    ...view.model.nodes,
    ...view.model.ports.flatMap(({ device, tunnel }) => (tunnel === null ? [] : [{ device, ...tunnel }])),
  ];
  const behind = tunnels.find(({ device, l3 }) => l3 && device === route.device);
  if (behind !== undefined) {
    add('neighbour', 'none needed', describeTunnel(behind));
    return { verdict: 'forward', reason: '', egress: route.device, node: '' };
  }
  const nextHop = route.via === '' ? formatAddress(tuple.dst) : route.via;
  const mac = view.neighbour(route.device, nextHop);
  add(
    'neighbour',
    mac ?? 'not resolved',
    mac === null ? 'the packet is held until the kernel has resolved it' : nextHop,
  );
  return mac === null
    ? punt('neighbour')
    : { verdict: 'forward', reason: '', egress: route.device, node: '' };
}
